"""A rule of one's own over any figure in ``evaluations``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from selfalign.gates.figures import decided, missing
from selfalign.gates.settings import GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision


class FigureGate:
    """Fails where ``bound`` of a figure lies below ``min`` or above ``max``.

    Beyond noise is ``bound: high`` with ``min`` and ``bound: low`` with ``max``; a burden of proof the other way round.
    """

    name = "figure"

    class Config(GateSettings):
        id: Literal["figure"] = "figure"
        metric: str = Field(min_length=1, description="as in the table evaluations")
        split: str = Field("held_out", description="as in the table evaluations")
        bound: Literal["value", "low", "high"] = Field("value", description="which end of the 95 % interval counts")
        min: float | None = Field(None, description="fails below this")
        max: float | None = Field(None, description="fails above this")

        @model_validator(mode="after")
        def _limited(self) -> FigureGate.Config:
            if self.min is None and self.max is None:
                raise ValueError("gate 'figure' needs min, max or both")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. One decision for each limit."""
        metric, bound = self.config.metric, self.config.bound
        found = data.figure(metric, self.config.split)
        held = getattr(found, bound) if found else None
        if found is None or held is None:
            return [missing(metric, f"was not measured on {self.config.split}" if found is None else f"has no {bound}")]
        what = "" if bound == "value" else f"its {bound} end "
        return [
            decided(
                found, fails=fails, threshold=limit, reason=f"{what}must {word} {limit:g} ({self.config.split})",
                remedy="see docs/gates.md",
            )
            for limit, fails, word in (
                (self.config.min, self.config.min is not None and held < self.config.min, "be at least"),
                (self.config.max, self.config.max is not None and held > self.config.max, "not exceed"),
            )
            if limit is not None
        ]  # fmt: skip
