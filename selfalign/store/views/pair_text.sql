-- Every preference pair with its texts: what a person reads to see what the model was taught.
CREATE OR REPLACE VIEW pair_text AS
SELECT
    pair.round,
    prompt.text AS prompt,
    chosen.text AS chosen,
    rejected.text AS rejected,
    pair.chosen_score,
    pair.rejected_score,
    pair.margin,
    pair.judge,
    pair.builder,
    pair.n_votes,
    chosen.n_tokens AS chosen_tokens,
    rejected.n_tokens AS rejected_tokens,
    pair.prompt_id,
    pair.pair_id,
    pair.chosen_id,
    pair.rejected_id
FROM pairs AS pair
LEFT JOIN prompts AS prompt
    ON prompt.prompt_id = pair.prompt_id AND prompt.round = pair.round AND prompt.split = 'train'
LEFT JOIN candidates AS chosen ON chosen.candidate_id = pair.chosen_id
LEFT JOIN candidates AS rejected ON rejected.candidate_id = pair.rejected_id;
