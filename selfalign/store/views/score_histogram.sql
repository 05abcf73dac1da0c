-- How a judge's valid scores on training candidates are spread: one row a round, judge and bin.
-- Ten bins from the lowest to the highest score that the judge gave in any round, so that rounds compare; bar is
-- for the eye. Empty bins have no row.
CREATE OR REPLACE VIEW score_histogram AS
WITH
votes AS (
    SELECT judgement.round, judgement.judge, judgement.judge_hash, judgement.score
    FROM judgements AS judgement
    JOIN candidates AS candidate ON candidate.candidate_id = judgement.candidate_id
    WHERE candidate.split = 'train' AND judgement.score IS NOT NULL
),
ranges AS (
    SELECT judge_hash, min(score) AS low, (max(score) - min(score)) / 10 AS width FROM votes GROUP BY judge_hash
),
binned AS (
    SELECT
        votes.round,
        votes.judge,
        votes.judge_hash,
        ranges.low,
        ranges.width,
        -- The highest score belongs to the last bin; a judge that gave one score has one bin.
        CASE WHEN ranges.width > 0 THEN least(9, floor((votes.score - ranges.low) / ranges.width)) ELSE 0 END AS bin
    FROM votes
    JOIN ranges ON ranges.judge_hash = votes.judge_hash
),
counted AS (
    SELECT round, judge, judge_hash, low + bin * width AS bin_low, low + (bin + 1) * width AS bin_high, count(*) AS n
    FROM binned
    GROUP BY round, judge, judge_hash, low, width, bin
)
SELECT
    round,
    judge,
    bin_low,
    bin_high,
    n,
    n / sum(n) OVER (PARTITION BY round, judge_hash) AS share,
    repeat('#', ceil(40 * n / sum(n) OVER (PARTITION BY round, judge_hash))::INTEGER) AS bar,
    judge_hash
FROM counted;
