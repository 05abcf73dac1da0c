-- What the gold set said of each judge: one row a branch, round, judge and figure; branch is NULL for the run as it stands.
-- whole: the run's own judge, and not a member of it. split: which gold items. What the metrics are: docs/calibration.md.
CREATE OR REPLACE VIEW judge_figures AS
SELECT
    branch,
    round,
    json_extract_string(detail, '$.judge') AS judge,
    split NOT LIKE '%/%' AS whole,
    metric,
    value,
    low,
    high,
    n,
    split
FROM all_evaluations
WHERE metric LIKE 'judge\_%' ESCAPE '\' AND split LIKE 'gold\_%' ESCAPE '\';
