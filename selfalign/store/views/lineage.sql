-- Where a training example came from and where it went, one row a pair, label or ranking and candidate of it:
-- prompt -> candidate (and the weights that made it) -> judgements -> example -> checkpoint -> its pass rate.
-- side: chosen, rejected; desirable, undesirable; or rank 1 (the best), rank 2 ... pair_id is NULL where it is no pair.
-- round made the example, trained_round trained on it: the same, and any later one that took it as well (policy.data).
-- review is 'flip' where it trained with its sides exchanged, and 'reject' (trained_round NULL) where a person left it out.
CREATE OR REPLACE VIEW lineage AS
WITH
sides AS (
    SELECT
        -- A column of its own: a query for one pair then finds it by the table's index.
        'pair' AS kind, pair_id, pair_id AS example_id, round, prompt_id, 'chosen' AS side, chosen_id AS candidate_id,
        chosen_score AS score
    FROM pairs
    UNION ALL
    SELECT 'pair', pair_id, pair_id, round, prompt_id, 'rejected', rejected_id, rejected_score FROM pairs
    UNION ALL
    SELECT
        'label', NULL, label_id, round, prompt_id, CASE WHEN label THEN 'desirable' ELSE 'undesirable' END, candidate_id,
        score
    FROM unary_labels
    UNION ALL
    SELECT
        'ranking', NULL, ranking_id, round, prompt_id, 'rank ' || generate_subscripts(candidate_ids, 1),
        unnest(candidate_ids), unnest(scores)
    FROM rankings
),
-- Every example trains the round that made it, and those that took it again.
given AS (
    SELECT *, nullif(round, 0) AS given_round FROM sides -- imported pairs train only rounds that take them
    UNION ALL
    SELECT sides.*, replays.round FROM sides JOIN replays ON replays.example_id = sides.example_id AND replays.kind = sides.kind
),
trainings AS (
    SELECT
        given.*,
        override.decision AS review,
        CASE WHEN override.decision IS DISTINCT FROM 'reject' THEN given.given_round END AS trained_round
    FROM given
    LEFT JOIN overrides AS override
        ON override.round = given.given_round AND override.pair_id = given.pair_id
),
judged AS (
    -- Joined before they are collected, so that a query for one example collects the votes of its candidates only.
    SELECT
        example.*,
        list(judgement.judgement_id ORDER BY judgement.judge, judgement.sample_idx, judgement.judgement_id)
            FILTER (WHERE judgement.judgement_id IS NOT NULL) AS judgement_ids
    FROM trainings AS example
    LEFT JOIN judgements AS judgement
        ON judgement.candidate_id = example.candidate_id AND judgement.round = example.round
    GROUP BY ALL
),
trained AS (
    SELECT round, checkpoint_id, weights_hash, path
    FROM checkpoints
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY created_at DESC, checkpoint_id) = 1
),
measured AS (
    SELECT round, max(value) AS pass_rate_strict
    FROM evaluations
    WHERE metric = 'pass_rate_strict' AND split = 'held_out'
    GROUP BY round
)
SELECT
    sides.pair_id,
    sides.round,
    sides.side,
    sides.prompt_id,
    prompt.text AS prompt,
    sides.candidate_id,
    candidate.weights_hash,
    sides.judgement_ids,
    sides.score,
    trained.checkpoint_id,
    trained.weights_hash AS trained_weights_hash,
    trained.path AS checkpoint_path,
    measured.pass_rate_strict,
    sides.kind,
    sides.example_id,
    sides.trained_round,
    sides.review
FROM judged AS sides
LEFT JOIN prompts AS prompt
    ON prompt.prompt_id = sides.prompt_id AND prompt.round = sides.round AND prompt.split = 'train'
-- An example's candidates are its round's: a round lies together, and the others are not read.
LEFT JOIN candidates AS candidate
    ON candidate.candidate_id = sides.candidate_id AND candidate.round = sides.round
LEFT JOIN trained ON trained.round = sides.trained_round
LEFT JOIN measured ON measured.round = sides.trained_round;
