-- How often a model judge orders two candidates of a prompt as the verifier does: one row a round and judge.
-- n: pairs of candidates that the verifier tells apart and that the judge scored. agreement counts the judge's ties
-- as half, so that 0.5 is chance. Composite judges are left out: the verifier may be one of their members.
CREATE OR REPLACE VIEW judge_agreement AS
WITH
judges AS (
    SELECT judge_hash, any_value(judge) AS judge
    FROM judgements
    WHERE judge <> 'verifier' AND weights_hash IS NOT NULL
    GROUP BY judge_hash
    HAVING json_extract(any_value(detail), '$.members') IS NULL
),
verdicts AS (
    SELECT
        candidate.round, candidate.prompt_id, candidate.sample_idx, candidate.candidate_id, avg(judgement.score) AS score
    FROM judgements AS judgement
    JOIN candidates AS candidate ON candidate.candidate_id = judgement.candidate_id
    WHERE judgement.judge = 'verifier' AND judgement.outcome = 'ok' AND candidate.split = 'train'
    GROUP BY candidate.round, candidate.prompt_id, candidate.sample_idx, candidate.candidate_id
),
told_apart AS (
    SELECT a.round, a.candidate_id AS better, b.candidate_id AS worse
    FROM verdicts AS a
    JOIN verdicts AS b ON b.round = a.round AND b.prompt_id = a.prompt_id AND b.score < a.score
),
scores AS (
    SELECT judgement.judge_hash, judgement.candidate_id, avg(judgement.score) AS score
    FROM judgements AS judgement
    JOIN judges ON judges.judge_hash = judgement.judge_hash
    WHERE judgement.outcome = 'ok'
    GROUP BY judgement.judge_hash, judgement.candidate_id
)
SELECT
    told_apart.round,
    any_value(judges.judge) AS judge,
    count(*) AS n,
    count(*) FILTER (WHERE better.score > worse.score) AS agree,
    count(*) FILTER (WHERE better.score = worse.score) AS ties,
    count(*) FILTER (WHERE better.score < worse.score) AS disagree,
    (count(*) FILTER (WHERE better.score > worse.score) + 0.5 * count(*) FILTER (WHERE better.score = worse.score))
    / count(*) AS agreement,
    better.judge_hash
FROM told_apart
JOIN scores AS better ON better.candidate_id = told_apart.better
JOIN scores AS worse ON worse.candidate_id = told_apart.worse AND worse.judge_hash = better.judge_hash
JOIN judges ON judges.judge_hash = better.judge_hash
GROUP BY told_apart.round, better.judge_hash;
