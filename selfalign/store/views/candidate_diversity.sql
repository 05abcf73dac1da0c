-- Whether sampling still explores: distinct texts a prompt, and texts seen in an earlier round, one row a round.
-- duplicates: candidates whose text another candidate of the prompt has too, beyond the first. all_same: prompts
-- whose candidates (two or more) are one text. seen_before: candidates whose text the prompt had in an earlier round.
-- Demonstrations do not count.
CREATE OR REPLACE VIEW candidate_diversity AS
WITH
texts AS (
    SELECT round, prompt_id, hash(text) AS text, count(*) AS n
    FROM candidates
    WHERE split = 'train' AND origin IS DISTINCT FROM 'demonstration'
    GROUP BY round, prompt_id, hash(text)
),
dated AS (
    SELECT *, min(round) OVER (PARTITION BY prompt_id, text) < round AS seen_before FROM texts
),
by_prompt AS (
    SELECT
        round,
        prompt_id,
        sum(n)::BIGINT AS candidates,
        count(*) AS distinct_texts,
        coalesce(sum(n) FILTER (WHERE seen_before), 0)::BIGINT AS seen_before
    FROM dated
    GROUP BY round, prompt_id
)
SELECT
    round,
    count(*) AS prompts,
    sum(candidates)::BIGINT AS candidates,
    avg(distinct_texts) AS distinct_per_prompt,
    (sum(candidates) - sum(distinct_texts))::BIGINT AS duplicates,
    (sum(candidates) - sum(distinct_texts)) / sum(candidates) AS duplicate_share,
    count(*) FILTER (WHERE candidates > 1 AND distinct_texts = 1) AS all_same,
    sum(seen_before)::BIGINT AS seen_before
FROM by_prompt
GROUP BY round;
