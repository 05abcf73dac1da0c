-- How long texts are, round by round: one row a round and kind (candidates, chosen, rejected, desirable, undesirable, held_out).
-- cut_share: of them, the share that was cut off at max_tokens.
CREATE OR REPLACE VIEW length_drift AS
WITH
texts AS (
    SELECT
        round, CASE WHEN split = 'train' THEN 'candidates' ELSE 'held_out' END AS kind, n_tokens, finish_reason
    FROM candidates
    WHERE origin IS DISTINCT FROM 'demonstration'
    UNION ALL
    SELECT pair.round, 'chosen' AS kind, chosen.n_tokens, chosen.finish_reason
    FROM pairs AS pair JOIN candidates AS chosen ON chosen.candidate_id = pair.chosen_id
    UNION ALL
    SELECT pair.round, 'rejected' AS kind, rejected.n_tokens, rejected.finish_reason
    FROM pairs AS pair JOIN candidates AS rejected ON rejected.candidate_id = pair.rejected_id
    UNION ALL
    SELECT
        label.round, CASE WHEN label.label THEN 'desirable' ELSE 'undesirable' END AS kind, candidate.n_tokens,
        candidate.finish_reason
    FROM unary_labels AS label JOIN candidates AS candidate ON candidate.candidate_id = label.candidate_id
)
SELECT
    round,
    kind,
    count(*) AS n,
    avg(n_tokens) AS mean_tokens,
    median(n_tokens) AS median_tokens,
    quantile_cont(n_tokens, 0.95) AS p95_tokens,
    avg(CASE WHEN finish_reason = 'length' THEN 1.0 ELSE 0.0 END) AS cut_share
FROM texts
GROUP BY round, kind;
