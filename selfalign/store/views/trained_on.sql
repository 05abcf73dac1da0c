-- What each round's training was given, one row a pair, label, ranking or pair of judgements: its own, and those of
-- earlier rounds (policy.data). `kind` says which table `example_id` is of. Lessons are in a table of their own.
-- A pair that a person rejected is not there; `review` is 'flip' where one was trained with its sides exchanged.
CREATE OR REPLACE VIEW trained_on AS
WITH
made AS (
    SELECT round, 'pair' AS kind, pair_id AS example_id FROM pairs
    UNION ALL
    SELECT round, 'judgement_pair', pair_id FROM judgement_pairs
    UNION ALL
    SELECT round, 'label', label_id FROM unary_labels
    UNION ALL
    SELECT round, 'ranking', ranking_id FROM rankings
),
given AS (
    -- Round 0 trains nothing: its pairs are imported, for later rounds to take.
    SELECT round, kind, example_id, round AS from_round FROM made WHERE round > 0
    UNION ALL
    SELECT round, kind, example_id, from_round FROM replays
)
SELECT given.round, given.kind, given.example_id, given.from_round, override.decision AS review
FROM given
LEFT JOIN overrides AS override
    ON given.kind = 'pair' AND override.round = given.round AND override.pair_id = given.example_id
WHERE override.decision IS DISTINCT FROM 'reject';
