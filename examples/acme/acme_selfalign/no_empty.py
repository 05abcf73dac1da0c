"""A gate: a round after which too many answers are empty is rolled back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.gates.figures import missing
from selfalign.gates.settings import Action, GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision


class NoEmptyGate:
    name = "acme_no_empty"

    class Config(GateSettings):
        id: Literal["acme_no_empty"] = "acme_no_empty"
        action: Action = Field("roll_back", description="what follows where the rule fails")
        max_share: float = Field(0.05, ge=0, le=1, description="of held-out answers")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate: a figure that was not measured is said to be missing, never taken for good."""
        found = data.figure("empty_share")
        if found is None or found.low is None:
            return [missing("empty_share", "was not measured; evaluate.metrics needs diversity")]
        # Beyond noise: the whole interval lies above.
        verdict: Literal["pass", "fail"] = "fail" if found.low > self.config.max_share else "pass"
        reason = f"must not be above {self.config.max_share:g} beyond noise"
        return [
            Decision(
                "empty_share", verdict, reason, found.value, found.low, found.high, found.n, self.config.max_share,
                remedy="lower train.learning_rate, or raise train.nll_weight",
            )
        ]  # fmt: skip
