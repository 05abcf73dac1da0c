"""Evaluators: rows in, figures out. Every metric that is written is listed here."""

from __future__ import annotations

from collections.abc import Mapping

#: Metric -> meaning and unit. Intervals are 95 %.
METRICS: Mapping[str, str] = {
    "pass_rate_strict": "share of held-out prompts whose every constraint the answer meets as it stands",
    "pass_rate_loose": "the same, also without the first or last line or without asterisks",
    "pass_rate_strict_instruction": "share of single constraints that are met",
    "pass_rate_delta_vs_m0": "pass_rate_strict minus that of M0 on the same prompts, paired",
    "pass_rate_delta_vs_previous": "pass_rate_strict minus that of the round before on the same prompts, paired",
    "mean_length_tokens": "mean length of an answer, tokens",
    "truncated_share": "share of answers cut at max_tokens",
    "empty_share": "share of answers without text",
    "distinct_1": "distinct words over words of all answers",
    "distinct_2": "distinct 2-grams over 2-grams of all answers",
    "distinct_3": "distinct 3-grams over 3-grams of all answers",
    "distinct_2_fixed": "distinct_2 over the first 2,000 words, comparable between rounds of different length",
    "log_ratio_vs_m0": "mean of log pi_t - log pi_0 over M_t's held-out answers, nats an answer",
    "chosen_displacement": "mean log-probability of chosen answers after training minus the reference's, nats",
    "rejected_displacement": "the same of rejected answers, nats",
    "reward_margin": "beta times the mean difference of the two displacements",
    "reward_accuracy": "share of training pairs whose chosen answer gained more than the rejected one",
    "ranking_accuracy": "share of training pairs whose chosen answer is at least as likely as the rejected one",
    "train_loss": "mean loss over the last tenth of the steps",
    "guard_loss": "loss before the first step, ln 2 where the reference is the parent",
    "displacement_alarm": "1 if chosen answers became less likely while the margin grew",
}
