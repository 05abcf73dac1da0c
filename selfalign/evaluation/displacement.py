"""How far training moved what it trained on; likelihood displacement is good and bad answers falling together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from selfalign.config import Settings
from selfalign.evaluation.rows import point, row
from selfalign.evaluation.statistics import Interval, wilson
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation

_FIGURES = (
    "chosen_displacement", "rejected_displacement", "desirable_displacement", "undesirable_displacement",
    "reward_margin", "reward_accuracy", "ranking_accuracy", "kl_estimate", "rank_accuracy", "best_logp_change",
    "rest_logp_change", "train_loss", "guard_loss", "judgement_chosen_displacement",
    "judgement_rejected_displacement", "judgement_reward_margin", "judgement_reward_accuracy",
    "judgement_ranking_accuracy",
)  # fmt: skip
#: Of all that was trained on; the others are of the examples that the trainer measured.
_LOSSES = ("train_loss", "guard_loss")
#: Examples that are measured apart: their figures begin so, and so does the number of them.
_APART = ("judgement_", "desirable_", "undesirable_")
_SHARES = ("reward_accuracy", "ranking_accuracy", "judgement_reward_accuracy", "judgement_ranking_accuracy")


class Displacement:
    """Turns the trainer's final figures into rows, and raises the alarm of Razin et al. (arXiv 2410.08847).

    ``n`` counts the examples that a figure was measured on, of losses all that were trained on. Shares have Wilson's
    interval; of the other figures a trainer reports means without their spread, so that they have none. A training
    that was made before trainers said how many they measured has no interval, and its ``n`` is what it trained on.
    """

    name = "displacement"

    class Config(Settings):
        id: Literal["displacement"] = "displacement"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A figure that training did not report gives no row."""
        found = [
            row(data, name, _figure(name, float(data.training[name]), data), split="train")
            for name in _FIGURES
            if name in data.training
        ]
        if _good(data.training) and "reward_margin" in data.training:
            found.append(
                row(data, "displacement_alarm", point(alarm(data.training), _n("reward_margin", data)), split="train")
            )
        return found


def _figure(name: str, value: float, data: EvaluationInput) -> Interval:
    n = _measured(name, data.training)
    if name in _SHARES and n and 0 <= value <= 1:
        return wilson(round(value * n), n)
    return point(value, _n(name, data))


def _n(name: str, data: EvaluationInput) -> int:
    measured = None if name in _LOSSES else _measured(name, data.training)
    return data.n_trained if measured is None else measured


def _measured(name: str, training: Mapping[str, float]) -> int | None:
    """How many examples the trainer says that it measured ``name`` on; None where it does not."""
    prefix = next((prefix for prefix in _APART if name.startswith(prefix)), "")
    found = training.get(f"{prefix}measured")
    return None if found is None else int(found)


def _good(training: Mapping[str, float]) -> str | None:
    """What the trainer calls the answers that should gain: chosen ones (pairs) or desirable ones (labels)."""
    return next((name for name in ("chosen", "desirable") if f"{name}_displacement" in training), None)


def alarm(training: Mapping[str, float]) -> float | None:
    """1 if chosen (or desirable) answers lost probability although the margin grew, else 0; None where that cannot be told.

    Lost means against the reference and, where the trainer reports it, in this round: with the first
    checkpoint as reference an earlier round's loss must not ring again.
    """
    good = _good(training)
    chosen, margin = training[f"{good}_displacement"], training["reward_margin"]
    change = training.get(f"{good}_logp_change", chosen)
    if not all(math.isfinite(value) for value in (chosen, change, margin)):
        return None
    return float(max(chosen, change) < 0 < margin)
