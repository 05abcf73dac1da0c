-- Held-out prompts whose strict pass or fail flipped between M_t-1 and M_t, with both answers.
-- With several samples a prompt each is compared with the one of its number: they share their seeds.
CREATE OR REPLACE VIEW held_out_changes AS
SELECT
    now.round,
    CASE WHEN now.passed THEN 'gained' ELSE 'lost' END AS change,
    now.prompt,
    before.answer AS answer_before,
    now.answer AS answer_now,
    list_filter(before.instruction_ids, lambda id, i: NOT before.followed[i]) AS failed_before,
    list_filter(now.instruction_ids, lambda id, i: NOT now.followed[i]) AS failed_now,
    now.language,
    now.category,
    now.prompt_id,
    now.sample_idx,
    before.candidate_id AS candidate_before,
    now.candidate_id AS candidate_now
FROM checked_answers AS now
JOIN checked_answers AS before
    ON before.round = now.round - 1 AND before.prompt_id = now.prompt_id AND before.sample_idx = now.sample_idx
WHERE before.passed <> now.passed;
