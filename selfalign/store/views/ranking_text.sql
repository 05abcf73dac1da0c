-- Every ranking with its texts, one row an answer: place 1 is the best of `places`.
CREATE OR REPLACE VIEW ranking_text AS
WITH listed AS (
    SELECT
        round,
        ranking_id,
        prompt_id,
        judge,
        builder,
        len(candidate_ids) AS places,
        generate_subscripts(candidate_ids, 1) AS place,
        unnest(candidate_ids) AS candidate_id,
        unnest(scores) AS score
    FROM rankings
)
SELECT
    listed.round,
    prompt.text AS prompt,
    listed.place,
    listed.places,
    candidate.text AS answer,
    listed.score,
    listed.judge,
    listed.builder,
    candidate.n_tokens,
    listed.prompt_id,
    listed.ranking_id,
    listed.candidate_id
FROM listed
LEFT JOIN prompts AS prompt
    ON prompt.prompt_id = listed.prompt_id AND prompt.round = listed.round AND prompt.split = 'train'
LEFT JOIN candidates AS candidate ON candidate.candidate_id = listed.candidate_id;
