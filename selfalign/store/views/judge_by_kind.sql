-- How often each judge was right on gold items of each kind: one row a branch, round, judge and kind; branch, whole and
-- split as in judge_figures. A tie counts half. Kinds are those of the gold set: what makes the worse answer worse.
CREATE OR REPLACE VIEW judge_by_kind AS
SELECT
    figure.branch,
    figure.round,
    json_extract_string(figure.detail, '$.judge') AS judge,
    figure.split NOT LIKE '%/%' AS whole,
    kind.key AS kind,
    kind.value.value,
    kind.value.low,
    kind.value.high,
    kind.value.n,
    figure.split
FROM
    all_evaluations AS figure,
    unnest(map_entries(
        json_extract(figure.detail, '$.by_kind')::MAP(VARCHAR, STRUCT(value DOUBLE, low DOUBLE, high DOUBLE, n INTEGER))
    )) AS kinds (kind)
WHERE figure.metric = 'judge_pairwise_accuracy' AND figure.split LIKE 'gold\_%' ESCAPE '\';
