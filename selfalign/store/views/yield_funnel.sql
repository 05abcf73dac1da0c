-- How many of a round's training prompts got how far, from prompt to training example: one row a round and step.
-- name: prompts; answered (a candidate was sampled); judged (a valid vote); kept (the resampler accepted a candidate);
-- paired (a pair, a label or a ranking). A step that the round has not come to, or does not have, has no row.
-- row_count: candidates, valid votes, accepted candidates, examples. share: of the round's prompts.
CREATE OR REPLACE VIEW yield_funnel AS
WITH
asked AS (
    SELECT round, prompt_id FROM prompts WHERE split = 'train'
),
sampled AS (
    SELECT round, prompt_id, candidate_id
    FROM candidates
    WHERE split = 'train' AND origin IS DISTINCT FROM 'demonstration'
),
votes AS (
    SELECT candidate.round, candidate.prompt_id, judgement.outcome
    FROM judgements AS judgement
    JOIN candidates AS candidate ON candidate.candidate_id = judgement.candidate_id
    WHERE candidate.split = 'train'
),
examples AS (
    SELECT round, prompt_id FROM pairs
    UNION ALL
    SELECT round, prompt_id FROM unary_labels
    UNION ALL
    SELECT round, prompt_id FROM rankings
),
counted AS (
    SELECT round, 1 AS step, 'prompts' AS name, count(DISTINCT prompt_id) AS prompts, count(*) AS row_count
    FROM asked
    GROUP BY round
    UNION ALL
    SELECT round, 2, 'answered', count(DISTINCT prompt_id), count(*) FROM sampled GROUP BY round
    UNION ALL
    -- A judge of whom nothing can be read has its row, with 0.
    SELECT
        round, 3, 'judged', count(DISTINCT prompt_id) FILTER (WHERE outcome = 'ok'),
        count(*) FILTER (WHERE outcome = 'ok')
    FROM votes
    GROUP BY round
    UNION ALL
    SELECT round, 4, 'kept', count(DISTINCT prompt_id) FILTER (WHERE accepted), count(*) FILTER (WHERE accepted)
    FROM selections
    GROUP BY round
    UNION ALL
    SELECT stage.round, 5, 'paired', count(DISTINCT example.prompt_id), count(example.prompt_id)
    FROM (SELECT DISTINCT round FROM stages WHERE stage = 'pair' AND status IN ('done', 'empty')) AS stage
    LEFT JOIN examples AS example ON example.round = stage.round
    GROUP BY stage.round
)
SELECT
    counted.round,
    counted.step,
    counted.name,
    counted.prompts,
    counted.row_count,
    counted.prompts / nullif(total.prompts, 0) AS share
FROM counted
JOIN counted AS total ON total.round = counted.round AND total.step = 1;
