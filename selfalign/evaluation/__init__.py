"""Evaluators: rows in, figures out. Every metric that is written is listed here."""

from __future__ import annotations

from collections.abc import Mapping

#: Metric -> meaning and unit. Intervals are 95 %.
METRICS: Mapping[str, str] = {
    "pass_rate_strict": "share of held-out prompts whose every constraint the answer meets as it stands (mean over samples), 0 to 1",
    "pass_rate_loose": "pass_rate_strict, also without the first or last line or without asterisks, 0 to 1",
    "pass_rate_strict_instruction": "share of single constraints that are met, 0 to 1; interval clustered by prompt",
    "pass_rate_delta_vs_m0": "pass_rate_strict minus that of M0 on the same prompts, paired, -1 to 1",
    "pass_rate_delta_vs_previous": "pass_rate_strict minus that of the round before on the same prompts, paired, -1 to 1",
    "mean_length_tokens": "mean length of an answer, tokens",
    "length_slope": "slope of a prompt's answer length over the rounds so far, mean over prompts, tokens a round",
    "truncated_share": "share of answers cut at max_tokens, 0 to 1",
    "empty_share": "share of answers without text, 0 to 1",
    "distinct_1": "distinct words over words of all answers, 0 to 1",
    "distinct_2": "distinct 2-grams over 2-grams of all answers, 0 to 1",
    "distinct_3": "distinct 3-grams over 3-grams of all answers, 0 to 1",
    "distinct_2_fixed": "distinct_2 over the first 2,000 words by prompt id, comparable between rounds of different length",
    "self_bleu": "mean BLEU-4 of an answer against the answers to other prompts, 0 to 1; higher is less varied",
    "near_duplicate_candidates": "share of the round's training candidates that nearly repeat one of an earlier round, 0 to 1",
    "near_duplicate_chosen": "share of the round's chosen answers that nearly repeat a candidate of an earlier round, 0 to 1",
    "resample_acceptance_rate": "mean probability with which a resampler accepts a scored candidate, mean over prompts, 0 to 1",
    "resample_effective_size": "candidates that those probabilities are worth if all counted the same, mean over prompts",
    "resample_score_gain": "mean judge's score of a prompt's accepted candidates minus that of all, mean over prompts, points",
    "log_ratio_vs_m0": "mean of log pi_t - log pi_0 over M_t's held-out answers, nats an answer",
    "win_rate_vs_previous": "share of held-out prompts on which a judge prefers M_t's answer to M_(t-1)'s, ties half, 0 to 1",
    "win_rate_vs_m0": "share of held-out prompts on which a judge prefers M_t's answer to M0's, ties half, 0 to 1",
    "lc_win_rate_vs_previous": "win_rate_vs_previous as predicted for answers of equal length, 0 to 1",
    "lc_win_rate_vs_m0": "win_rate_vs_m0 as predicted for answers of equal length, 0 to 1",
    "judge_drift": "mean score of M0's answers by the judge with M_t's weights minus that with M0's, paired, points",
    "frozen_judge_score": "mean score of M_t's answers by the judge with M0's weights, points",
    "self_judge_score": "mean score of M_t's answers by the judge with M_t's weights, points",
    "plain_text_nll": "mean negative log-likelihood of the shipped plain text, nats a token",
    "plain_text_nll_delta_vs_m0": "plain_text_nll minus M0's, paired by paragraph, nats a token; above 0 is forgetting",
    "chosen_displacement": "mean log-probability of chosen answers after training minus the reference's, nats",
    "rejected_displacement": "mean log-probability of rejected answers after training minus the reference's, nats",
    "reward_margin": "beta times the mean difference of the two displacements, nats",
    "reward_accuracy": "share of training pairs whose chosen answer gained more than the rejected one, 0 to 1",
    "ranking_accuracy": "share of training pairs whose chosen answer is at least as likely as the rejected one, 0 to 1",
    "train_loss": "mean loss over the last tenth of the steps, nats",
    "guard_loss": "loss before the first step, nats; ln 2 where the reference is the parent",
    "displacement_alarm": "1 if chosen answers became less likely while the margin grew, else 0",
}
