"""Which figures are drawn as curves over the rounds, and what to say where one was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """One plot. ``metrics`` maps a metric to the name of its line; ``absent`` says why there may be none.

    ``from_zero``: the axis begins at 0. It does, but where differences are shown, which have 0 in sight anyway.
    """

    name: str
    title: str
    about: str
    axis: str
    metrics: Mapping[str, str]
    section: str
    split: str = "held_out"
    line_at: float | None = None
    domain: tuple[float, float] | None = None
    from_zero: bool = True
    absent: str = "not measured"


CURVES = (
    Curve(
        "pass_rate_strict", "Strict pass rate", "Share of held-out prompts whose every constraint the answer meets.",
        "share of prompts", {"pass_rate_strict": "strict"}, "quality",
        absent="not measured: no held-out prompt has a constraint that can be checked, or no round is evaluated yet",
    ),
    Curve(
        "pass_rate_delta_vs_m0", "Strict pass rate against M0", "M_t minus M0, paired by prompt; above 0 is better.",
        "difference", {"pass_rate_delta_vs_m0": "against M0"}, "quality", line_at=0,
        absent="there is no trained model to compare yet, or the pass rate is not measured",
    ),
    Curve(
        "pass_rates_other", "Other pass rates",
        "Loose: also without the answer's first or last line, or asterisks. Single constraints: each counts by itself.",
        "share", {"pass_rate_loose": "loose", "pass_rate_strict_instruction": "single constraints"}, "quality",
        absent="not measured: no held-out prompt has a constraint that can be checked, or no round is evaluated yet",
    ),
    Curve(
        "win_rate_vs_previous", "Wins over the model before",
        "Share of held-out prompts on which a judge prefers M_t's answer; a tie counts half.", "share of prompts",
        {"win_rate_vs_previous": "as judged", "lc_win_rate_vs_previous": "at equal length"}, "quality",
        line_at=0.5, domain=(0, 1), absent="not measured; evaluate.win_rate turns it on",
    ),
    Curve(
        "win_rate_vs_m0", "Wins over M0", "As before, against the model that the run started from.", "share of prompts",
        {"win_rate_vs_m0": "as judged", "lc_win_rate_vs_m0": "at equal length"}, "quality",
        line_at=0.5, domain=(0, 1), absent="not measured; evaluate.win_rate turns it on",
    ),
    Curve(
        "plain_text", "Ordinary prose against M0",
        "Change in the negative log-likelihood of plain paragraphs; above 0 is forgetting.", "nats a token",
        {"plain_text_nll_delta_vs_m0": "against M0"}, "quality", split="plain_text", line_at=0,
        absent="not measured; evaluate.capability turns it on",
    ),
    Curve(
        "mean_length", "Length of held-out answers", "Mean length of an answer.", "tokens",
        {"mean_length_tokens": "mean length"}, "texts",
        absent="not measured; the evaluator 'length' is off, or no round is evaluated yet",
    ),
    Curve(
        "cut_and_empty", "Answers that were cut off, or are empty", "Cut: longer than max_tokens.", "share of answers",
        {"truncated_share": "cut off", "empty_share": "empty"}, "texts",
        absent="not measured; the evaluator 'length' is off, or no round is evaluated yet",
    ),
    Curve(
        "distinct", "Variety of held-out answers",
        "Distinct n-grams over n-grams of all answers: lower means that answers resemble one another.",
        "distinct share", {"distinct_1": "words", "distinct_2": "word pairs", "distinct_3": "word triples"}, "texts",
        domain=(0, 1), absent="not measured; the evaluator 'diversity' is off, or no round is evaluated yet",
    ),
    Curve(
        "self_bleu", "Likeness of held-out answers",
        "Mean BLEU-4 of an answer with the answers to other prompts as references: higher is less varied.", "self-BLEU",
        {"self_bleu": "self-BLEU"}, "texts",
        absent="not measured; the evaluator 'self_bleu' is off, or no round is evaluated yet",
    ),
    Curve(
        "near_duplicates", "Answers that an earlier round had, nearly word for word",
        "Share of the round's texts whose word 5-grams overlap by 0.8 or more with a candidate of an earlier round.",
        "share of texts",
        {"near_duplicate_candidates": "candidates", "near_duplicate_chosen": "chosen"}, "texts", split="train",
        absent="not measured; it takes two rounds that sample, and the evaluator 'near_duplicates'",
    ),
    Curve(
        "log_ratio", "Distance from M0",
        "Mean of log pi_t - log pi_0 on M_t's own held-out answers.", "nats an answer", {"log_ratio_vs_m0": "log-ratio"},
        "texts", line_at=0, absent="not measured; evaluate.log_ratio turns it on, from round 1",
    ),
    Curve(
        "judge_drift", "Did the judge change?",
        "Score of M0's answers by the judge with M_t's weights minus that with M0's: the answers are the same.",
        "points of the judge", {"judge_drift": "drift"}, "judges", line_at=0,
        absent="not measured; evaluate.drift turns it on",
    ),
    Curve(
        "self_judging", "Does the judge grow fond of its own style?",
        "Mean score of M_t's answers by the judge with M_t's weights and with M0's: trouble where only the first rises.",
        "points of the judge", {"self_judge_score": "judged by itself", "frozen_judge_score": "judged by M0"}, "judges",
        absent="not measured; evaluate.drift turns it on",
    ),
    Curve(
        "resample_acceptance", "What the resampler accepts",
        "Mean probability with which a scored candidate of a prompt is accepted: near 0 few different answers go on, at 1 "
        "nothing is chosen.",
        "probability", {"resample_acceptance_rate": "acceptance rate"}, "yields", split="train", domain=(0, 1),
        absent="not measured; the config has no resampler, or none has worked yet",
    ),
    Curve(
        "resample_size", "How many candidates that is worth",
        "Effective sample size: so many equally likely candidates have the probabilities of a prompt, (sum p)² / sum p².",
        "candidates a prompt", {"resample_effective_size": "effective size"}, "yields", split="train",
        absent="not measured; the config has no resampler, or none has worked yet",
    ),
    Curve(
        "displacement", "Displacement",
        "Mean log-probability of the trained answers minus the reference's. Below 0 for the better side: it became less "
        "likely.",
        "nats an answer",
        {
            "chosen_displacement": "chosen", "rejected_displacement": "rejected", "desirable_displacement": "wanted",
            "undesirable_displacement": "not wanted", "best_logp_change": "best ranked", "rest_logp_change": "other ranked",
        },
        "training", split="train", line_at=0,
        absent="no figure: no round was trained yet, or its trainer does not report it",
    ),
    Curve(
        "reward_accuracy", "Pairs that training got right",
        "Gained more: the chosen answer's likelihood grew more than the rejected one's. Likelier: it is at least as likely.",
        "share of pairs", {"reward_accuracy": "gained more", "ranking_accuracy": "likelier", "rank_accuracy": "ranked likelier"},
        "training", split="train", line_at=0.5, domain=(0, 1),
        absent="no figure: no round was trained on pairs or rankings yet, or its trainer does not report it",
    ),
    Curve(
        "reward_margin", "Reward margin", "beta times how much more the chosen answer gained than the rejected one.", "nats",
        {"reward_margin": "margin"}, "training", split="train", line_at=0,
        absent="no figure: no round was trained on pairs yet, or the loss has no reference",
    ),
    Curve(
        "loss", "Loss", "Before the first step, and over the last tenth of the steps.", "loss",
        {"guard_loss": "before", "train_loss": "at the end"}, "training", split="train",
        absent="no figure: no round was trained yet, or its trainer does not report it",
    ),
)  # fmt: skip

#: Of the gold set; see docs/calibration.md.
JUDGE_CURVES = (
    Curve(
        "judge_accuracy", "Is the judge right?",
        "Share of gold items whose better answer the judge with M_t's weights finds; a tie counts half, 0.5 is chance.",
        "share of gold items", {"judge_pairwise_accuracy": "accuracy"}, "judges", line_at=0.5, domain=(0, 1),
        absent="not measured: no stage calibrate (its default is to measure judges that are models)",
    ),
    Curve(
        "judge_biases", "What sways the run's judge",
        "Length: how much more accurate it is where the better answer is the longer one. Position: preference for the answer "
        "shown first. 0 is no bias.",
        "bias", {"judge_length_bias": "length", "judge_position_bias": "position"}, "judges", line_at=0,
        absent="not measured: no stage calibrate (its default is to measure judges that are models)",
    ),
    Curve(
        "judge_readable", "Can the run's judge be read?", "Share of its judgements of gold answers that have a score, and of gold "
        "items on which both answers got the same.",
        "share", {"judge_parse_rate": "readable", "judge_tie_share": "ties"}, "judges", domain=(0, 1),
        absent="not measured: no stage calibrate (its default is to measure judges that are models)",
    ),
)  # fmt: skip
#: Curves with a line a judge; the others are of the run's own.
BY_JUDGE = frozenset({"judge_accuracy"})
