-- One row a round: what went in, what came out, how good M_t and its judge are, and what the gates said.
-- Figures that were not measured are NULL. Counts are of training rows only. _low and _high bound a 95 % interval.
-- What each column is, and in which unit: docs/queries.md.
CREATE OR REPLACE VIEW round_summary AS
WITH
prompt_figures AS (
    SELECT round, count(*) AS prompts FROM prompts WHERE split = 'train' GROUP BY round
),
candidate_figures AS (
    SELECT round, count(*) AS candidates FROM candidates WHERE split = 'train' GROUP BY round
),
judgement_figures AS (
    -- Without those of held-out answers, which are few: a join with all candidates takes seconds at ten million.
    SELECT
        round,
        count(*) AS judgements,
        avg(CASE WHEN outcome = 'ok' THEN 1.0 ELSE 0.0 END) AS valid_judgements
    FROM judgements
    ANTI JOIN (SELECT candidate_id FROM candidates WHERE split = 'held_out') USING (candidate_id)
    GROUP BY round
),
pair_figures AS (
    SELECT round, count(*) AS pairs, avg(margin) AS mean_margin FROM pairs GROUP BY round
),
side_figures AS (
    SELECT
        round,
        avg(chosen_tokens) AS mean_chosen_tokens,
        avg(rejected_tokens) AS mean_rejected_tokens
    FROM (
        SELECT round, chosen_tokens, rejected_tokens FROM pairs WHERE chosen_tokens IS NOT NULL
        UNION ALL
        -- Pairs of older stores: their candidates say. Among ten million that takes most of a second.
        SELECT pair.round, chosen.n_tokens, rejected.n_tokens
        FROM pairs AS pair
        JOIN candidates AS chosen ON chosen.candidate_id = pair.chosen_id
        JOIN candidates AS rejected ON rejected.candidate_id = pair.rejected_id
        WHERE pair.chosen_tokens IS NULL
    )
    GROUP BY round
),
label_figures AS (
    SELECT round, count(*) AS labels, count(*) FILTER (WHERE label) AS desirable_labels
    FROM unary_labels
    GROUP BY round
),
ranking_figures AS (
    SELECT round, count(*) AS rankings, avg(len(candidate_ids)) AS mean_ranking_size FROM rankings GROUP BY round
),
replay_figures AS (
    SELECT round, count(*) AS replayed FROM replays GROUP BY round
),
held_out AS (
    -- A store holds one run, so that a metric has one row a round and max() only picks it.
    SELECT
        round,
        max(value) FILTER (WHERE metric = 'pass_rate_strict') AS pass_rate_strict,
        max(low) FILTER (WHERE metric = 'pass_rate_strict') AS pass_rate_strict_low,
        max(high) FILTER (WHERE metric = 'pass_rate_strict') AS pass_rate_strict_high,
        max(value) FILTER (WHERE metric = 'pass_rate_strict_instruction') AS instruction_pass_rate_strict,
        max(value) FILTER (WHERE metric = 'pass_rate_delta_vs_m0') AS delta_vs_m0,
        max(low) FILTER (WHERE metric = 'pass_rate_delta_vs_m0') AS delta_vs_m0_low,
        max(high) FILTER (WHERE metric = 'pass_rate_delta_vs_m0') AS delta_vs_m0_high,
        max(value) FILTER (WHERE metric = 'pass_rate_delta_vs_previous') AS delta_vs_previous,
        max(low) FILTER (WHERE metric = 'pass_rate_delta_vs_previous') AS delta_vs_previous_low,
        max(high) FILTER (WHERE metric = 'pass_rate_delta_vs_previous') AS delta_vs_previous_high,
        max(value) FILTER (WHERE metric = 'mean_length_tokens') AS mean_length,
        max(value) FILTER (WHERE metric = 'distinct_2') AS distinct_2,
        max(value) FILTER (WHERE metric = 'log_ratio_vs_m0') AS log_ratio_to_m0
    FROM evaluations
    WHERE split = 'held_out'
    GROUP BY round
),
compared AS (
    SELECT
        round,
        max(value) FILTER (WHERE metric = 'win_rate_vs_previous') AS win_rate_vs_previous,
        max(low) FILTER (WHERE metric = 'win_rate_vs_previous') AS win_rate_vs_previous_low,
        max(high) FILTER (WHERE metric = 'win_rate_vs_previous') AS win_rate_vs_previous_high,
        max(value) FILTER (WHERE metric = 'win_rate_vs_m0') AS win_rate_vs_m0,
        max(low) FILTER (WHERE metric = 'win_rate_vs_m0') AS win_rate_vs_m0_low,
        max(high) FILTER (WHERE metric = 'win_rate_vs_m0') AS win_rate_vs_m0_high,
        max(value) FILTER (WHERE metric = 'judge_drift') AS judge_drift,
        max(low) FILTER (WHERE metric = 'judge_drift') AS judge_drift_low,
        max(high) FILTER (WHERE metric = 'judge_drift') AS judge_drift_high
    FROM evaluations
    WHERE split = 'held_out'
    GROUP BY round
),
capability AS (
    SELECT
        round,
        max(value) FILTER (WHERE metric = 'plain_text_nll') AS plain_text_nll,
        max(value) FILTER (WHERE metric = 'plain_text_nll_delta_vs_m0') AS plain_text_nll_delta_vs_m0,
        max(low) FILTER (WHERE metric = 'plain_text_nll_delta_vs_m0') AS plain_text_nll_delta_vs_m0_low,
        max(high) FILTER (WHERE metric = 'plain_text_nll_delta_vs_m0') AS plain_text_nll_delta_vs_m0_high
    FROM evaluations
    WHERE split = 'plain_text'
    GROUP BY round
),
judge_accuracy AS (
    -- The run's own judge; members of it, and what `selfalign calibrate` measures, have splits of their own.
    SELECT round, value, low, high
    FROM evaluations
    WHERE metric = 'judge_pairwise_accuracy' AND split IN ('gold_test', 'gold_calibrate')
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY split DESC) = 1
),
gates AS (
    SELECT
        round,
        -- The strongest of what failed rules asked for; the order is that of selfalign/gates/rules.py.
        CASE
            WHEN bool_or(done = 'roll_back') THEN 'roll_back'
            WHEN bool_or(done = 'stop') THEN 'stop'
            WHEN bool_or(done = 'ask') THEN 'ask'
            WHEN bool_or(done = 'continue') THEN 'continue'
            WHEN bool_or(verdict = 'pass') THEN 'pass'
            ELSE 'not_applicable'
        END AS gate,
        string_agg(DISTINCT rule, ', ' ORDER BY rule) FILTER (WHERE verdict = 'fail') AS gate_failed
    FROM (
        SELECT
            round,
            json_extract_string(detail, '$.rule') AS rule,
            json_extract_string(detail, '$.verdict') AS verdict,
            json_extract_string(detail, '$.done') AS done
        FROM events
        WHERE kind = 'gate'
    )
    GROUP BY round
),
training AS (
    SELECT
        round,
        max(value) FILTER (WHERE metric = 'chosen_displacement') AS chosen_displacement,
        max(value) FILTER (WHERE metric = 'rejected_displacement') AS rejected_displacement,
        max(value) FILTER (WHERE metric = 'train_loss') AS train_loss_final
    FROM evaluations
    WHERE split = 'train'
    GROUP BY round
),
durations AS (
    SELECT round, sum(seconds) AS seconds FROM stages GROUP BY round
)
SELECT
    r.round,
    'M' || r.round AS model,
    r.weights_hash,
    coalesce(prompt_figures.prompts, 0) AS prompts,
    coalesce(candidate_figures.candidates, 0) AS candidates,
    coalesce(judgement_figures.judgements, 0) AS judgements,
    judgement_figures.valid_judgements,
    coalesce(pair_figures.pairs, 0) AS pairs,
    coalesce(pair_figures.pairs, 0)::DOUBLE / nullif(prompt_figures.prompts, 0) AS pair_yield,
    pair_figures.mean_margin,
    side_figures.mean_chosen_tokens,
    side_figures.mean_rejected_tokens,
    coalesce(label_figures.labels, 0) AS labels,
    coalesce(label_figures.desirable_labels, 0) AS desirable_labels,
    coalesce(ranking_figures.rankings, 0) AS rankings,
    ranking_figures.mean_ranking_size,
    coalesce(replay_figures.replayed, 0) AS replayed,
    judge_accuracy.value AS judge_accuracy,
    judge_accuracy.low AS judge_accuracy_low,
    judge_accuracy.high AS judge_accuracy_high,
    held_out.pass_rate_strict,
    held_out.pass_rate_strict_low,
    held_out.pass_rate_strict_high,
    held_out.instruction_pass_rate_strict,
    held_out.delta_vs_m0,
    held_out.delta_vs_m0_low,
    held_out.delta_vs_m0_high,
    held_out.delta_vs_previous,
    held_out.delta_vs_previous_low,
    held_out.delta_vs_previous_high,
    compared.win_rate_vs_previous,
    compared.win_rate_vs_previous_low,
    compared.win_rate_vs_previous_high,
    compared.win_rate_vs_m0,
    compared.win_rate_vs_m0_low,
    compared.win_rate_vs_m0_high,
    held_out.mean_length,
    held_out.mean_length / nullif((SELECT mean_length FROM held_out WHERE round = 0), 0) AS length_ratio_to_m0,
    held_out.distinct_2,
    held_out.log_ratio_to_m0,
    compared.judge_drift,
    compared.judge_drift_low,
    compared.judge_drift_high,
    capability.plain_text_nll,
    exp(capability.plain_text_nll) AS plain_text_perplexity,
    capability.plain_text_nll_delta_vs_m0,
    capability.plain_text_nll_delta_vs_m0_low,
    capability.plain_text_nll_delta_vs_m0_high,
    training.chosen_displacement,
    training.rejected_displacement,
    training.train_loss_final,
    gates.gate,
    gates.gate_failed,
    durations.seconds
FROM rounds AS r
LEFT JOIN prompt_figures ON prompt_figures.round = r.round
LEFT JOIN candidate_figures ON candidate_figures.round = r.round
LEFT JOIN judgement_figures ON judgement_figures.round = r.round
LEFT JOIN pair_figures ON pair_figures.round = r.round
LEFT JOIN side_figures ON side_figures.round = r.round
LEFT JOIN label_figures ON label_figures.round = r.round
LEFT JOIN ranking_figures ON ranking_figures.round = r.round
LEFT JOIN replay_figures ON replay_figures.round = r.round
LEFT JOIN held_out ON held_out.round = r.round
LEFT JOIN compared ON compared.round = r.round
LEFT JOIN capability ON capability.round = r.round
LEFT JOIN judge_accuracy ON judge_accuracy.round = r.round
LEFT JOIN gates ON gates.round = r.round
LEFT JOIN training ON training.round = r.round
LEFT JOIN durations ON durations.round = r.round;
