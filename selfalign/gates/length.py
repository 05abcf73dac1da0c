"""Answers that grow from round to round: the usual sign that a judge pays for length."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from pydantic import Field

from selfalign.gates.figures import decided, missing, ratio
from selfalign.gates.settings import GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision, Evaluation

_METRIC = "mean_length_tokens"
#: A line through fewer models says nothing.
_LEAST_MODELS = 3


class LengthGate:
    """Fails where held-out answers grew too much, beyond noise, in a round or since M0, or grow too fast.

    The ratio's lower 95 % bound counts where there is one. The slope is the growth factor a round of a least-squares
    line through the logarithms of M_0 ... M_t's mean lengths; it has no interval.
    """

    name = "length"

    class Config(GateSettings):
        id: Literal["length"] = "length"
        from_round: int = Field(1, ge=1, description="M0 has nothing to be compared with")
        max_round: float | None = Field(1.5, gt=0, description="most that the mean may grow in a round, as a ratio")
        max_total: float | None = Field(2.0, gt=0, description="most that it may grow since M0, as a ratio")
        max_slope: float | None = Field(1.25, gt=0, description="most that it may grow a round over all rounds")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. One decision for each limit that is set; in round 1 a round is the total."""
        limits = [
            (self.config.max_round, data.round - 1, f"{_METRIC} ratio to M{data.round - 1}"),
            (self.config.max_total if data.round > 1 else None, 0, f"{_METRIC} ratio to M0"),
        ]
        found = [_grown(data, other, limit, name) for limit, other, name in limits if limit is not None]
        if self.config.max_slope is not None and data.round + 1 >= _LEAST_MODELS:
            found.append(_slope(data, self.config.max_slope))
        return found


def _grown(data: GateInput, other: int, limit: float, name: str) -> Decision:
    now, before = data.figure(_METRIC), data.figure(_METRIC, round=other)
    if now is None or before is None or not before.value or not now.value:
        return missing(name, "was not measured")
    value, low, high = ratio(now, before)
    fails = (value if low is None else low) > limit
    return _decision(replace(now, value=value, low=low, high=high), fails, limit, name)


def _slope(data: GateInput, limit: float) -> Decision:
    name = f"{_METRIC} growth a round"
    lengths = {
        round: figure.value
        for round in range(data.round + 1)
        if (figure := data.figure(_METRIC, round=round)) is not None and figure.value
    }
    if len(lengths) < _LEAST_MODELS or data.round not in lengths:
        return missing(name, f"was measured for {len(lengths)} models, a slope needs {_LEAST_MODELS}")
    value = growth(lengths)
    figure = Evaluation("", data.round, _METRIC, "held_out", value, None, None, len(lengths), "{}")
    return _decision(figure, value > limit, limit, name)


def growth(lengths: dict[int, float]) -> float:
    """Factor a round of the least-squares line through (round, log length)."""
    middle = math.fsum(lengths) / len(lengths)
    spread = math.fsum((round - middle) ** 2 for round in lengths)
    slope = math.fsum((round - middle) * math.log(length) for round, length in lengths.items()) / spread
    return math.exp(slope)


def _decision(figure: Evaluation, fails: bool, limit: float, name: str) -> Decision:
    return decided(
        figure, fails=fails, threshold=limit, name=name, reason=f"must not exceed {limit:g}",
        remedy="see whether the judge pays for length (view length_drift), and give it a length penalty",
    )  # fmt: skip
