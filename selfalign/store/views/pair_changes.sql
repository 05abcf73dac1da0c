-- Old and new side by side: prompts whose pair in a branch is not the one the run has now. One row a branch, round
-- and prompt. change: 'flipped' (chosen and rejected swapped), 'other sides', 'no pair now', 'new pair', 'same sides'.
-- Prompts without a pair on either side are left out; with several pairs a prompt the first by id is compared.
CREATE OR REPLACE VIEW pair_changes AS
WITH
texts AS (
    SELECT candidate_id, any_value(text) AS text
    FROM (SELECT candidate_id, text FROM candidates UNION ALL SELECT candidate_id, text FROM archived_candidates)
    GROUP BY candidate_id
),
prompt_texts AS (
    SELECT prompt_id, any_value(text) AS text
    FROM (SELECT prompt_id, text FROM prompts UNION ALL SELECT prompt_id, text FROM archived_prompts)
    GROUP BY prompt_id
),
now AS (
    SELECT round, prompt_id, min_by(chosen_id, pair_id) AS chosen_id, min_by(rejected_id, pair_id) AS rejected_id,
        min_by(margin, pair_id) AS margin, min_by(judge, pair_id) AS judge
    FROM pairs
    GROUP BY round, prompt_id
),
earlier AS (
    SELECT branch, round, prompt_id, min_by(chosen_id, pair_id) AS chosen_id,
        min_by(rejected_id, pair_id) AS rejected_id, min_by(margin, pair_id) AS margin, min_by(judge, pair_id) AS judge
    FROM archived_pairs
    GROUP BY branch, round, prompt_id
),
-- A prompt without a pair in a branch counts only where that branch has pairs of its round at all.
asked AS (
    SELECT branch, round, prompt_id FROM earlier
    UNION
    SELECT b.branch, now.round, now.prompt_id
    FROM (SELECT DISTINCT branch, round FROM earlier) AS b
    JOIN now ON now.round = b.round
)
SELECT
    asked.branch,
    asked.round,
    prompt_texts.text AS prompt,
    CASE
        WHEN now.chosen_id IS NULL THEN 'no pair now'
        WHEN earlier.chosen_id IS NULL THEN 'new pair'
        WHEN now.chosen_id = earlier.rejected_id AND now.rejected_id = earlier.chosen_id THEN 'flipped'
        WHEN now.chosen_id = earlier.chosen_id AND now.rejected_id = earlier.rejected_id THEN 'same sides'
        ELSE 'other sides'
    END AS change,
    old_chosen.text AS chosen_before,
    new_chosen.text AS chosen_now,
    old_rejected.text AS rejected_before,
    new_rejected.text AS rejected_now,
    earlier.margin AS margin_before,
    now.margin AS margin_now,
    earlier.judge AS judge_before,
    now.judge AS judge_now,
    asked.prompt_id
FROM asked
LEFT JOIN now ON now.round = asked.round AND now.prompt_id = asked.prompt_id
LEFT JOIN earlier
    ON earlier.branch = asked.branch AND earlier.round = asked.round AND earlier.prompt_id = asked.prompt_id
LEFT JOIN prompt_texts ON prompt_texts.prompt_id = asked.prompt_id
LEFT JOIN texts AS old_chosen ON old_chosen.candidate_id = earlier.chosen_id
LEFT JOIN texts AS new_chosen ON new_chosen.candidate_id = now.chosen_id
LEFT JOIN texts AS old_rejected ON old_rejected.candidate_id = earlier.rejected_id
LEFT JOIN texts AS new_rejected ON new_rejected.candidate_id = now.rejected_id;
