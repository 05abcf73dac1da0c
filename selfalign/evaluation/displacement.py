"""How far training moved the pairs it trained on; likelihood displacement is both sides falling together."""

from __future__ import annotations

from typing import Literal

from selfalign.config import Settings
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation

_FIGURES = (
    "chosen_displacement", "rejected_displacement", "reward_margin", "reward_accuracy", "ranking_accuracy",
    "train_loss", "guard_loss",
)  # fmt: skip


class Displacement:
    """Turns the trainer's final figures into rows, and raises the alarm of Razin et al. (arXiv 2410.08847)."""

    name = "displacement"

    class Config(Settings):
        id: Literal["displacement"] = "displacement"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        found = {name: data.training[name] for name in _FIGURES if name in data.training}
        if "chosen_displacement" in found and "reward_margin" in found:
            # The chosen answers became less likely although the margin grew.
            found["displacement_alarm"] = float(found["chosen_displacement"] < 0 < found["reward_margin"])
        return [
            Evaluation(data.run, data.round, name, "train", float(value), None, None, 0, "{}")
            for name, value in found.items()
        ]
