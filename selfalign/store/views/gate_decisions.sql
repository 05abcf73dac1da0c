-- What the gates said of each round, with the figure and what it was held against; done is what followed.
-- A round that was rolled back has its decisions under its branch; branch is NULL for the run as it stands.
-- verdict: pass, fail, or not_applicable where there was no figure.
CREATE OR REPLACE VIEW gate_decisions AS
WITH decisions AS (
    SELECT NULL::VARCHAR AS branch, round, message, detail FROM events WHERE kind = 'gate'
    UNION ALL
    SELECT branch, round, message, detail FROM archived_events WHERE kind = 'gate'
)
SELECT
    branch,
    round,
    json_extract_string(detail, '$.rule') AS rule,
    json_extract_string(detail, '$.figure') AS figure,
    json_extract_string(detail, '$.verdict') AS verdict,
    json_extract_string(detail, '$.done') AS done,
    CAST(json_extract_string(detail, '$.value') AS DOUBLE) AS value,
    CAST(json_extract_string(detail, '$.low') AS DOUBLE) AS low,
    CAST(json_extract_string(detail, '$.high') AS DOUBLE) AS high,
    CAST(json_extract_string(detail, '$.n') AS BIGINT) AS n,
    CAST(json_extract_string(detail, '$.threshold') AS DOUBLE) AS threshold,
    json_extract_string(detail, '$.action') AS action,
    message AS reason,
    json_extract_string(detail, '$.remedy') AS remedy,
    CAST(json_extract_string(detail, '$.gate') AS INTEGER) AS gate
FROM decisions;
