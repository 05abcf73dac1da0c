"""Rounds that no longer improve anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from selfalign.gates.figures import decided, difference, missing
from selfalign.gates.settings import Action, GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision


class SaturationGate:
    """Fails where the last ``rounds`` rounds brought no improvement of the strict pass rate beyond noise.

    Neither any of them against the one before it (paired), nor all of them together (see gates.figures.difference).
    """

    name = "saturation"

    class Config(GateSettings):
        id: Literal["saturation"] = "saturation"
        action: Action = Field("stop", description="what follows where the rule fails")
        rounds: int = Field(3, ge=1, description="how many rounds without an improvement are too many")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. Not applicable before round ``rounds``."""
        k = self.config.rounds
        name = f"pass_rate_strict gain over {k} rounds"
        if data.round < k:
            return [missing(name, f"needs {k} rounds")]
        now, before = data.figure("pass_rate_strict"), data.figure("pass_rate_strict", round=data.round - k)
        if now is None or before is None:
            return [missing(name, "was not measured")]
        value, low, high = difference(now, before)
        if low is None:
            return [missing(name, f"has no interval (n {now.n})")]
        steps = [
            data.figure("pass_rate_delta_vs_previous", round=round)
            for round in range(data.round - k + 1, data.round + 1)
        ]
        improved = low > 0 or any(step and step.low is not None and step.low > 0 for step in steps)
        figure = replace(now, value=value, low=low, high=high)
        return [
            decided(
                figure, fails=not improved, threshold=0, name=name,
                reason="must lie above 0 beyond noise, or one of its rounds must",
                remedy="the best round's weights are kept; harder or other prompts, or another judge, may help",
            )
        ]  # fmt: skip
