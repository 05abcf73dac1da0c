-- What people said of pairs, with the texts, one row a review. `holds`: it is the last word on its pair.
-- trained_rounds are the rounds whose training it changed; empty where it changed none (yet), as an 'accept' never does.
CREATE OR REPLACE VIEW review_text AS
WITH
honoured AS (
    SELECT review_id, list(round ORDER BY round) AS rounds FROM overrides GROUP BY review_id
)
SELECT
    review.reviewed_at,
    review.reviewer,
    review.decision,
    review.note,
    row_number() OVER (PARTITION BY review.pair_id ORDER BY review.reviewed_at DESC, review.review_id DESC) = 1 AS holds,
    coalesce(honoured.rounds, []) AS trained_rounds,
    pair.round,
    pair.prompt,
    pair.chosen,
    pair.rejected,
    pair.margin,
    pair.judge,
    review.pair_id,
    review.review_id
FROM reviews AS review
LEFT JOIN pair_text AS pair ON pair.pair_id = review.pair_id
LEFT JOIN honoured ON honoured.review_id = review.review_id;
