-- What every stage of every round cost: seconds of all attempts, rows, tokens, and its share of the run's time.
-- tokens_written: sampled by the stage, where it says so (answers, and judgements that are written out).
-- tokens_read: of the answers that the stage looked at, without prompts and rubrics.
CREATE OR REPLACE VIEW cost_by_stage AS
WITH
ledger AS (
    SELECT
        round,
        stage,
        arg_max(status, started_at) AS status,
        sum(attempt)::BIGINT AS attempts,
        sum(seconds) AS seconds,
        arg_max(rows_in, started_at) AS rows_in,
        arg_max(rows_out, started_at) AS rows_out,
        min(started_at) AS first_started
    FROM stages
    GROUP BY round, stage
),
answers AS (
    SELECT round, split, sum(n_tokens)::BIGINT AS tokens FROM candidates GROUP BY round, split
),
votes AS (
    -- Votes of model judges only; a judge that reads scores from logits writes nothing.
    SELECT round, sum(TRY_CAST(json_extract_string(detail, '$.n_tokens') AS BIGINT))::BIGINT AS tokens
    FROM judgements
    WHERE weights_hash IS NOT NULL AND json_extract_string(detail, '$.stage') IS NULL
    GROUP BY round
),
sides AS (
    SELECT round, pair_id AS example_id, chosen_id AS candidate_id FROM pairs
    UNION ALL
    SELECT round, pair_id, rejected_id FROM pairs
    UNION ALL
    SELECT round, label_id, candidate_id FROM unary_labels
    UNION ALL
    SELECT round, ranking_id, unnest(candidate_ids) FROM rankings
),
trained_sides AS (
    SELECT round, candidate_id FROM sides
    UNION ALL
    SELECT replays.round, sides.candidate_id FROM replays JOIN sides ON sides.example_id = replays.example_id
),
trained AS (
    SELECT trained_sides.round, sum(candidate.n_tokens)::BIGINT AS tokens
    FROM trained_sides
    JOIN candidates AS candidate ON candidate.candidate_id = trained_sides.candidate_id
    GROUP BY trained_sides.round
),
costs AS (
    SELECT
        ledger.*,
        CASE ledger.stage
            WHEN 'generate' THEN train.tokens WHEN 'answer' THEN held_out.tokens WHEN 'judge' THEN votes.tokens
        END AS tokens_written,
        CASE ledger.stage
            WHEN 'judge' THEN train.tokens WHEN 'train' THEN trained.tokens WHEN 'evaluate' THEN held_out.tokens
        END AS tokens_read
    FROM ledger
    LEFT JOIN answers AS train ON train.round = ledger.round AND train.split = 'train'
    LEFT JOIN answers AS held_out ON held_out.round = ledger.round AND held_out.split = 'held_out'
    LEFT JOIN votes ON votes.round = ledger.round
    LEFT JOIN trained ON trained.round = ledger.round
)
SELECT
    round,
    stage,
    status,
    attempts,
    seconds,
    seconds / nullif(sum(seconds) OVER (), 0) AS share,
    rows_in,
    rows_out,
    tokens_written,
    tokens_read,
    tokens_written / nullif(seconds, 0) AS tokens_written_per_second,
    first_started
FROM costs;
