-- Every label with its texts: an answer that the model was taught to want (label is true) or not.
CREATE OR REPLACE VIEW label_text AS
SELECT
    label.round,
    prompt.text AS prompt,
    candidate.text AS answer,
    label.label,
    label.score,
    label.builder,
    candidate.n_tokens,
    label.prompt_id,
    label.label_id,
    label.candidate_id
FROM unary_labels AS label
LEFT JOIN prompts AS prompt
    ON prompt.prompt_id = label.prompt_id AND prompt.round = label.round AND prompt.split = 'train'
LEFT JOIN candidates AS candidate ON candidate.candidate_id = label.candidate_id;
