-- One row a round: what went in, what came out, and how good M_t is on held-out prompts.
-- Figures that were not measured are NULL. Counts are of training rows only.
CREATE OR REPLACE VIEW round_summary AS
WITH
prompt_figures AS (
    SELECT round, count(*) AS prompts FROM prompts WHERE split = 'train' GROUP BY round
),
candidate_figures AS (
    SELECT round, count(*) AS candidates FROM candidates WHERE split = 'train' GROUP BY round
),
judgement_figures AS (
    SELECT
        judgement.round,
        count(*) AS judgements,
        avg(CASE WHEN judgement.outcome = 'ok' THEN 1.0 ELSE 0.0 END) AS valid_judgements
    FROM judgements AS judgement
    JOIN candidates AS candidate ON candidate.candidate_id = judgement.candidate_id
    WHERE candidate.split = 'train'
    GROUP BY judgement.round
),
pair_figures AS (
    SELECT
        pair.round,
        count(*) AS pairs,
        avg(pair.margin) AS mean_margin,
        avg(chosen.n_tokens) AS mean_chosen_tokens,
        avg(rejected.n_tokens) AS mean_rejected_tokens
    FROM pairs AS pair
    LEFT JOIN candidates AS chosen ON chosen.candidate_id = pair.chosen_id
    LEFT JOIN candidates AS rejected ON rejected.candidate_id = pair.rejected_id
    GROUP BY pair.round
),
label_figures AS (
    SELECT round, count(*) AS labels, count(*) FILTER (WHERE label) AS desirable_labels
    FROM unary_labels
    GROUP BY round
),
ranking_figures AS (
    SELECT round, count(*) AS rankings, avg(len(candidate_ids)) AS mean_ranking_size FROM rankings GROUP BY round
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
    pair_figures.mean_chosen_tokens,
    pair_figures.mean_rejected_tokens,
    coalesce(label_figures.labels, 0) AS labels,
    coalesce(label_figures.desirable_labels, 0) AS desirable_labels,
    coalesce(ranking_figures.rankings, 0) AS rankings,
    ranking_figures.mean_ranking_size,
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
    held_out.mean_length,
    held_out.distinct_2,
    held_out.log_ratio_to_m0,
    training.chosen_displacement,
    training.rejected_displacement,
    training.train_loss_final,
    durations.seconds
FROM rounds AS r
LEFT JOIN prompt_figures ON prompt_figures.round = r.round
LEFT JOIN candidate_figures ON candidate_figures.round = r.round
LEFT JOIN judgement_figures ON judgement_figures.round = r.round
LEFT JOIN pair_figures ON pair_figures.round = r.round
LEFT JOIN label_figures ON label_figures.round = r.round
LEFT JOIN ranking_figures ON ranking_figures.round = r.round
LEFT JOIN held_out ON held_out.round = r.round
LEFT JOIN training ON training.round = r.round
LEFT JOIN durations ON durations.round = r.round;
