-- Which pairs trained the model that regressed: pairs that round t trained on, whose prompt carries an instruction
-- that M_t no longer follows on a held-out prompt which M_t-1 passed.
-- One row a pair; regressed counts those held-out prompts. chosen_breaks: the shared instructions that the chosen
-- answer itself does not follow (NULL where the verifier did not judge it). A lead, not a proof: the pairs share an
-- instruction with what got worse.
CREATE OR REPLACE VIEW regression_pairs AS
WITH
lost AS (
    SELECT DISTINCT round, prompt_id, unnest(failed_now) AS id FROM held_out_changes WHERE change = 'lost'
),
lost_by_instruction AS (
    SELECT round, id, list(prompt_id ORDER BY prompt_id) AS prompt_ids FROM lost GROUP BY round, id
),
trained_pairs AS (
    SELECT given.round, given.pair_id, given.prompt_id, given.made_in
    FROM (
        SELECT round, pair_id, prompt_id, round AS made_in FROM pairs
        UNION ALL
        SELECT replays.round, pair.pair_id, pair.prompt_id, pair.round
        FROM replays
        JOIN pairs AS pair ON pair.pair_id = replays.example_id
        WHERE replays.kind = 'pair'
    ) AS given
    -- What a person took out was not trained on.
    ANTI JOIN overrides AS left_out
        ON left_out.round = given.round AND left_out.pair_id = given.pair_id AND left_out.decision = 'reject'
),
pair_instructions AS (
    SELECT DISTINCT pair.round, pair.pair_id, unnest(prompt.instruction_id_list) AS id
    FROM trained_pairs AS pair
    JOIN prompts AS prompt
        ON prompt.prompt_id = pair.prompt_id AND prompt.round = pair.made_in AND prompt.split = 'train'
),
suspects AS (
    SELECT
        found.round,
        found.pair_id,
        list(found.id ORDER BY found.id) AS shared_ids,
        list_sort(list_distinct(flatten(list(lost_by_instruction.prompt_ids)))) AS regressed_prompt_ids
    FROM pair_instructions AS found
    JOIN lost_by_instruction ON lost_by_instruction.round = found.round AND lost_by_instruction.id = found.id
    GROUP BY found.round, found.pair_id
),
verdicts AS (
    SELECT
        judgement.candidate_id,
        json_extract(arg_max(judgement.detail, judgement.judgement_id), '$.ids')::VARCHAR[] AS ids,
        json_extract(arg_max(judgement.detail, judgement.judgement_id), '$.strict')::BOOLEAN[] AS followed
    FROM judgements AS judgement
    WHERE
        judgement.judge = 'verifier'
        AND judgement.outcome = 'ok'
        AND judgement.candidate_id IN (
            SELECT pair.chosen_id FROM pairs AS pair JOIN suspects ON suspects.pair_id = pair.pair_id
        )
    GROUP BY judgement.candidate_id
),
trained AS (
    SELECT round, checkpoint_id, weights_hash
    FROM checkpoints
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY created_at DESC, checkpoint_id) = 1
)
SELECT
    suspects.round,
    len(suspects.regressed_prompt_ids) AS regressed,
    suspects.shared_ids,
    -- list_intersect makes an empty list of NULL, and "breaks none" is not "was not judged".
    CASE
        WHEN verdicts.candidate_id IS NOT NULL
            THEN list_filter(
                suspects.shared_ids, lambda id: list_contains(
                    list_filter(verdicts.ids, lambda own, i: NOT verdicts.followed[i]), id
                )
            )
    END AS chosen_breaks,
    text.prompt,
    text.chosen,
    text.rejected,
    text.margin,
    text.judge,
    suspects.regressed_prompt_ids,
    suspects.pair_id,
    text.prompt_id,
    text.chosen_id,
    text.rejected_id,
    chosen.weights_hash AS made_by,
    trained.checkpoint_id,
    trained.weights_hash AS trained_weights_hash
FROM suspects
JOIN pair_text AS text ON text.pair_id = suspects.pair_id
LEFT JOIN candidates AS chosen ON chosen.candidate_id = text.chosen_id
LEFT JOIN verdicts ON verdicts.candidate_id = text.chosen_id
LEFT JOIN trained ON trained.round = suspects.round;
