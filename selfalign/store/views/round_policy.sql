-- What each round's training started from, was compared with and was given; one row a trained round.
-- `reference` is NULL where the loss compares with none, `data` is JSON. Further settings are in `settings`, as JSON.
CREATE OR REPLACE VIEW round_policy AS
WITH
given AS (
    SELECT round, count(*) AS replayed FROM replays GROUP BY round
),
trained AS (
    SELECT *
    FROM checkpoints
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY created_at DESC, checkpoint_id) = 1
),
said AS (
    SELECT
        *,
        coalesce(json_extract_string(policy, '$.start'), 'previous') AS start,
        -- A store from before policies were recorded says it by the weights alone.
        CASE
            WHEN policy IS NOT NULL THEN json_extract_string(policy, '$.reference')
            WHEN reference_hash = parent_hash THEN 'previous'
            WHEN reference_hash IS NOT NULL THEN 'initial'
        END AS compared_with
    FROM rounds
    WHERE round > 0 AND weights_hash IS NOT NULL
)
SELECT
    said.round,
    'M' || said.round AS model,
    CASE said.start WHEN 'base' THEN 'M0' ELSE 'M' || (said.round - 1) END AS starts_from,
    CASE
        WHEN compared_with IS NULL THEN NULL
        WHEN compared_with = 'previous' THEN 'M' || (said.round - 1)
        WHEN compared_with = 'initial' OR said.round = 1 THEN 'M0'
        ELSE 'average of M0 to M' || (said.round - 1) || ', decay ' || json_extract_string(said.policy, '$.reference.ema')
    END AS reference,
    coalesce(json_extract_string(said.policy, '$.data'), 'this') AS data,
    coalesce(given.replayed, 0) AS replayed,
    trained.n_examples,
    said.trainer,
    trained.method,
    json_extract(trained.config, '$.learning_rate')::DOUBLE AS learning_rate,
    json_extract(trained.config, '$.beta')::DOUBLE AS beta,
    coalesce(said.start_hash, said.parent_hash) AS start_hash,
    said.reference_hash,
    trained.config AS settings
FROM said
LEFT JOIN trained ON trained.round = said.round
LEFT JOIN given ON given.round = said.round;
