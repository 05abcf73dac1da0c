"""A judge that cannot tell better from worse must not decide what is trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.gates.figures import decided, missing
from selfalign.gates.settings import Action, GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision

_METRIC = "judge_pairwise_accuracy"


class JudgeAccuracyGate:
    """Fails unless the judge is better than ``min_low`` beyond noise.

    The burden of proof is the judge's: the lower 95 % bound of its pairwise accuracy on the gold set must exceed
    ``min_low``; chance is 0.5. It is M_t's accuracy that counts, as M_t judges in round t + 1.
    """

    name = "judge_accuracy"

    class Config(GateSettings):
        id: Literal["judge_accuracy"] = "judge_accuracy"
        action: Action = Field("stop", description="what follows where the rule fails")
        min_low: float = Field(0.5, ge=0, lt=1, description="the accuracy's lower 95 % bound must exceed this")
        split: str = Field("gold_test", description="of the gold set")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. A judge that was not measured is not applicable; before it is taught nothing is said."""
        if not data.judges_next:
            return []
        found = data.figure(_METRIC, self.config.split)
        if found is None:
            return [missing(_METRIC, f"was not measured on {self.config.split}")]
        limit = self.config.min_low
        if found.low is None:
            return [missing(_METRIC, f"has no interval (n {found.n})")]
        fails = found.low <= limit
        return [
            decided(
                found, fails=fails, threshold=limit,
                reason=f"its lower bound on {self.config.split} must exceed {limit:g}"
                + (": this judge is not known to tell better from worse" if fails else ""),
                remedy="teach the judge (evaluation fine-tuning), take another judge, or lower this gate's min_low",
            )
        ]  # fmt: skip
