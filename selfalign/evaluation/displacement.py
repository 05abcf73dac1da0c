"""How far training moved the pairs it trained on; likelihood displacement is both sides falling together."""

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
    "chosen_displacement", "rejected_displacement", "reward_margin", "reward_accuracy", "ranking_accuracy",
    "train_loss", "guard_loss",
)  # fmt: skip
_SHARES = ("reward_accuracy", "ranking_accuracy")


class Displacement:
    """Turns the trainer's final figures into rows, and raises the alarm of Razin et al. (arXiv 2410.08847).

    ``n`` counts the pairs trained on. Shares have Wilson's interval; of the other figures a trainer reports
    means without their spread, so that they have none.
    """

    name = "displacement"

    class Config(Settings):
        id: Literal["displacement"] = "displacement"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A figure that training did not report gives no row."""
        found = [
            row(data, name, _figure(name, float(data.training[name]), data.n_trained), split="train")
            for name in _FIGURES
            if name in data.training
        ]
        if {"chosen_displacement", "reward_margin"} <= data.training.keys():
            found.append(row(data, "displacement_alarm", point(alarm(data.training), data.n_trained), split="train"))
        return found


def _figure(name: str, value: float, n: int) -> Interval:
    if name in _SHARES and n and 0 <= value <= 1:
        return wilson(round(value * n), n)
    return point(value, n)


def alarm(training: Mapping[str, float]) -> float | None:
    """1 if chosen answers lost probability although the margin grew, else 0; None where that cannot be told.

    Lost means against the reference and, where the trainer reports it, in this round: with the first
    checkpoint as reference an earlier round's loss must not ring again.
    """
    chosen, margin = training["chosen_displacement"], training["reward_margin"]
    change = training.get("chosen_logp_change", chosen)
    if not all(math.isfinite(value) for value in (chosen, change, margin)):
        return None
    return float(max(chosen, change) < 0 < margin)
