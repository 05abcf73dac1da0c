-- Why a prompt gave no pair (or label, or ranking): the builder's reason, and what the deciding judge made of every candidate.
-- One row a prompt. scores, outcomes and answers are lists in order of sample; a NULL score had no valid vote, and
-- outcomes are the judge's votes on that candidate.
CREATE OR REPLACE VIEW unpaired AS
WITH
reasons AS (
    SELECT round, subject_id AS prompt_id, min(message) AS reason, arg_min(detail, message) AS detail
    FROM events
    WHERE kind = 'no_pair'
    GROUP BY round, subject_id
),
missed AS (
    SELECT prompt.round, prompt.prompt_id, prompt.text, reasons.reason, reasons.detail
    FROM prompts AS prompt
    JOIN reasons ON reasons.round = prompt.round AND reasons.prompt_id = prompt.prompt_id
    ANTI JOIN pairs AS pair ON pair.round = prompt.round AND pair.prompt_id = prompt.prompt_id
    WHERE prompt.split = 'train'
),
deciders AS (
    -- The judge that the round's pairs or rankings name; where it has none, the one that the config names.
    SELECT
        missed.round,
        coalesce(
            (SELECT min(pair.judge) FROM pairs AS pair WHERE pair.round = missed.round),
            (SELECT min(ranking.judge) FROM rankings AS ranking WHERE ranking.round = missed.round),
            (SELECT min(json_extract_string(run.config, '$.judge.id')) FROM runs AS run)
        ) AS judge
    FROM (SELECT DISTINCT round FROM missed) AS missed
),
scored AS (
    SELECT
        candidate.round,
        candidate.prompt_id,
        candidate.sample_idx,
        candidate.candidate_id,
        any_value(candidate.text) AS text,
        avg(judgement.score) AS score,
        list(judgement.outcome ORDER BY judgement.sample_idx, judgement.judgement_id)
            FILTER (WHERE judgement.outcome IS NOT NULL) AS outcomes
    FROM candidates AS candidate
    JOIN missed ON missed.round = candidate.round AND missed.prompt_id = candidate.prompt_id
    JOIN deciders ON deciders.round = candidate.round
    LEFT JOIN judgements AS judgement
        ON judgement.candidate_id = candidate.candidate_id
        AND judgement.round = candidate.round
        AND judgement.judge = deciders.judge
    WHERE candidate.split = 'train'
    GROUP BY candidate.round, candidate.prompt_id, candidate.sample_idx, candidate.candidate_id
),
lists AS (
    SELECT
        round,
        prompt_id,
        list(score ORDER BY sample_idx, candidate_id) AS scores,
        list(coalesce(outcomes, []) ORDER BY sample_idx, candidate_id) AS outcomes,
        list(text ORDER BY sample_idx, candidate_id) AS answers,
        list(candidate_id ORDER BY sample_idx, candidate_id) AS candidate_ids
    FROM scored
    GROUP BY round, prompt_id
)
SELECT
    missed.round,
    missed.text AS prompt,
    missed.reason,
    deciders.judge,
    coalesce(lists.scores, []) AS scores,
    coalesce(lists.outcomes, []) AS outcomes,
    coalesce(lists.answers, []) AS answers,
    missed.detail,
    missed.prompt_id,
    coalesce(lists.candidate_ids, []) AS candidate_ids
FROM missed
LEFT JOIN deciders ON deciders.round = missed.round
LEFT JOIN lists ON lists.round = missed.round AND lists.prompt_id = missed.prompt_id;
