-- Whether a judge can be trusted with labels: one row a round and judge, over votes on training candidates.
CREATE OR REPLACE VIEW judge_health AS
WITH
votes AS (
    SELECT judgement.round, judgement.judge, judgement.outcome, judgement.score
    FROM judgements AS judgement
    JOIN candidates AS candidate ON candidate.candidate_id = judgement.candidate_id
    WHERE candidate.split = 'train'
),
modes AS (
    -- A judge that gives one score to nearly everything says nothing, however valid its votes are.
    SELECT round, judge, max(n)::DOUBLE / sum(n) AS share_at_mode
    FROM (SELECT round, judge, score, count(*) AS n FROM votes WHERE score IS NOT NULL GROUP BY round, judge, score)
    GROUP BY round, judge
)
SELECT
    votes.round,
    votes.judge,
    count(*) AS votes,
    count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(*) FILTER (WHERE outcome = 'parse_error') AS parse_error,
    count(*) FILTER (WHERE outcome = 'out_of_range') AS out_of_range,
    count(*) FILTER (WHERE outcome = 'truncated') AS truncated,
    count(*) FILTER (WHERE outcome = 'refused') AS refused,
    count(*) FILTER (WHERE outcome = 'tie') AS tie,
    count(*) FILTER (WHERE outcome = 'disagree') AS disagree,
    count(*) FILTER (WHERE outcome = 'ok') / count(*) AS ok_rate,
    avg(score) AS mean_score,
    stddev_samp(score) AS sd_score,
    min(score) AS score_min,
    max(score) AS score_max,
    any_value(modes.share_at_mode) AS share_at_mode
FROM votes
LEFT JOIN modes ON modes.round = votes.round AND modes.judge = votes.judge
GROUP BY votes.round, votes.judge;
