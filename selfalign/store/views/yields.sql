-- What became of each round's training prompts: 'paired' (it gave a pair, a label or a ranking), the builder's reason
-- for none of what it makes, or 'not paired yet'.
-- Every prompt counts once, so that a round's figures add up to its prompts.
CREATE OR REPLACE VIEW yields AS
WITH
paired AS (
    SELECT round, prompt_id FROM pairs
    UNION
    SELECT round, prompt_id FROM unary_labels
    UNION
    SELECT round, prompt_id FROM rankings
),
unpaired AS (
    SELECT round, subject_id AS prompt_id, min(message) AS reason
    FROM events
    WHERE kind = 'no_pair'
    GROUP BY round, subject_id
),
fates AS (
    SELECT
        prompt.round,
        CASE WHEN paired.prompt_id IS NOT NULL THEN 'paired' ELSE coalesce(unpaired.reason, 'not paired yet') END AS reason
    FROM prompts AS prompt
    LEFT JOIN paired ON paired.round = prompt.round AND paired.prompt_id = prompt.prompt_id
    LEFT JOIN unpaired ON unpaired.round = prompt.round AND unpaired.prompt_id = prompt.prompt_id
    WHERE prompt.split = 'train'
)
SELECT round, reason, count(*) AS prompts FROM fates GROUP BY round, reason;
