-- How many held-out answers pass strictly that M_t-1's did not, and the other way round: one row a round that can be
-- compared. answers: how many were. The answers themselves: held_out_changes.
CREATE OR REPLACE VIEW held_out_flips AS
SELECT
    now.round,
    count(*) AS answers,
    count(*) FILTER (WHERE now.passed AND NOT before.passed) AS gained,
    count(*) FILTER (WHERE before.passed AND NOT now.passed) AS lost
FROM checked_answers AS now
JOIN checked_answers AS before
    ON before.round = now.round - 1 AND before.prompt_id = now.prompt_id AND before.sample_idx = now.sample_idx
GROUP BY now.round;
