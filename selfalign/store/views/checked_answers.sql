-- A held-out answer of M_t with what the verifier found: one row an answer, as pass_rate_strict counts them.
-- The last verdict counts, as in the evaluator. A verifier's score is 1 only if every constraint is met.
CREATE OR REPLACE VIEW checked_answers AS
WITH
verdicts AS (
    SELECT candidate_id, arg_max(detail, judgement_id) AS detail, arg_max(score, judgement_id) AS score
    FROM judgements
    WHERE judge = 'verifier' AND outcome = 'ok'
    GROUP BY candidate_id
)
SELECT
    answer.round,
    answer.prompt_id,
    answer.sample_idx,
    verdicts.score = 1 AS passed,
    prompt.language,
    prompt.category,
    json_extract(verdicts.detail, '$.ids')::VARCHAR[] AS instruction_ids,
    json_extract(verdicts.detail, '$.strict')::BOOLEAN[] AS followed,
    prompt.text AS prompt,
    answer.text AS answer,
    answer.n_tokens,
    answer.finish_reason,
    answer.candidate_id
FROM candidates AS answer
JOIN verdicts ON verdicts.candidate_id = answer.candidate_id
LEFT JOIN prompts AS prompt ON prompt.prompt_id = answer.prompt_id AND prompt.split = 'held_out'
WHERE answer.split = 'held_out';
