"""Likelihood displacement: the margin grows while the chosen answers lose probability."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.gates.figures import decided, missing
from selfalign.gates.settings import GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision

_METRIC = "displacement_alarm"


class DisplacementGate:
    """Fails where the round's training raised ``displacement_alarm`` (Razin et al., arXiv 2410.08847)."""

    name = "displacement"

    class Config(GateSettings):
        id: Literal["displacement"] = "displacement"
        from_round: int = Field(1, ge=1, description="M0 is not trained")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. A trainer without pairs reports no displacement."""
        found = data.figure(_METRIC, "train")
        if found is None:
            return [missing(_METRIC, "was not measured")]
        fails = bool(found.value)
        return [
            decided(
                found, fails=fails, threshold=0,
                reason="must be 0" + (": chosen answers lost probability while the margin grew" if fails else ""),
                remedy="raise train.nll_weight, lower train.learning_rate, or ask for pairs that differ more",
            )
        ]  # fmt: skip
