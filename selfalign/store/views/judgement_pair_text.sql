-- Every pair of judgements that the judge was trained on, with its texts and scores, and the answer they are about.
CREATE OR REPLACE VIEW judgement_pair_text AS
SELECT
    pair.round,
    prompt.text AS prompt,
    candidate.text AS answer,
    chosen.raw AS chosen,
    rejected.raw AS rejected,
    chosen.score AS chosen_score,
    rejected.score AS rejected_score,
    pair.margin,
    pair.judge,
    pair.n_verdicts,
    pair.candidate_id,
    pair.pair_id,
    pair.chosen_id,
    pair.rejected_id
FROM judgement_pairs AS pair
LEFT JOIN candidates AS candidate ON candidate.candidate_id = pair.candidate_id
LEFT JOIN prompts AS prompt
    ON prompt.prompt_id = candidate.prompt_id AND prompt.round = pair.round AND prompt.split = 'train'
LEFT JOIN judgements AS chosen ON chosen.judgement_id = pair.chosen_id
LEFT JOIN judgements AS rejected ON rejected.judgement_id = pair.rejected_id;
