"""A round that trains on too few of its prompts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.gates.figures import missing
from selfalign.gates.settings import GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision


class YieldGate:
    """Fails where fewer than ``min_share`` of the round's training prompts gave a pair. A count, so without interval."""

    name = "yield"

    class Config(GateSettings):
        id: Literal["yield"] = "yield"
        from_round: int = Field(1, ge=1, description="round 0 makes no pairs")
        min_share: float = Field(0.1, gt=0, le=1, description="share of the round's training prompts with a pair")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. A round without pairs is one that needs none, as any other ends before this."""
        paired, prompts = data.yields.get(data.round, (0, 0))
        if not prompts or not paired:
            return [missing("pair_yield", "has no pairs to count")]
        share, limit = paired / prompts, self.config.min_share
        return [
            Decision(
                "pair_yield", "fail" if share < limit else "pass", f"must be at least {limit:g}", share, n=prompts,
                threshold=limit,
                remedy="see why prompts give no pair (views yields, unpaired): more candidates, a higher temperature, or "
                "a lower pair.min_margin",
            )
        ]  # fmt: skip
