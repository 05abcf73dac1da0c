"""A figure of every round: how many answers ask something back."""

from __future__ import annotations

from typing import Literal

from selfalign.config import Settings
from selfalign.evaluation.rows import row
from selfalign.evaluation.statistics import share_interval
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation


class Questions:
    name = "acme_questions"

    class Config(Settings):
        id: Literal["acme_questions"] = "acme_questions"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator: rows of ``evaluations``, which gates, reports and SQL then know."""
        asks: dict[str, list[float]] = {}
        for item in data.candidates.get(data.round, ()):
            text = item.candidate.text.rstrip()
            asks.setdefault(item.prompt.prompt_id, []).append(float(text.endswith(("?", "？"))))
        return [row(data, "asks_back_share", share_interval(asks))] if asks else []
