"""How strongly several votes prefer one side of a pair, and what to do with weak and wrong pairs. Pure functions.

Secrets of RLHF in Large Language Models Part II (arXiv 2401.06080): M reward models trained on shuffled data
give mu and std of d = r_chosen - r_rejected for each pair. About a quarter of HH-RLHF has mu < 0; the bottom
fifth is better flipped, the top is better smoothed, and mu makes an adaptive margin. Here the votes are those of
a jury's members, or one judge's several answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from selfalign.config import Settings
from selfalign.pairing.sides import PairSettings


@dataclass(frozen=True)
class Strength:
    """Mean and standard deviation (dividing by n) of the differences chosen - rejected of ``n`` voters.

    In units of the votes: the judge's own scale, or [0, 1] for a jury's members.
    """

    mean: float
    std: float
    n: int


class StrengthSettings(Settings):
    """What becomes of a pair by the strength of its votes; the rules apply in the order of the settings."""

    min_votes: int = Field(2, ge=1, description="fewer voters on both sides: no pair (too_few_shared_votes)")
    drop_between: tuple[float, float] | None = Field(
        None, description="[low, high]: no pair with a mean difference in between (weak_preference)"
    )
    flip_below: float | None = Field(None, le=0, description="chosen and rejected change places below this mean")
    flip_bottom: float = Field(0.0, ge=0, le=0.5, description="and in this share of the round's pairs, the lowest")
    margin: Literal["mean", "score"] = Field("score", description="the pair's margin: mean difference, or scores'")
    weight: Literal["std", "none"] = Field(
        "none", description="std: the less the votes agree, the less the pair counts"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> StrengthSettings:
        if self.drop_between is not None and not self.drop_between[0] < self.drop_between[1]:
            raise ValueError("drop_between must be [low, high] with low below high")
        if self.margin != "mean" and (self.flip_below is not None or self.flip_bottom):
            raise ValueError("flipping needs margin: mean, since a flipped pair's scores have a negative margin")
        return self


class VotedPairSettings(PairSettings):
    """Settings of a builder whose pairs carry the judge's own scores, and so can follow the votes behind them."""

    strength: StrengthSettings | None = Field(
        None, description="flip, drop, weigh and space pairs by how far several votes agree on them"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Ids and fingerprints hash this: a run that does not use strength keeps those it had before there was any.
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if key != "strength" or value is not None}


def shared_differences(chosen: Mapping[str, float], rejected: Mapping[str, float]) -> list[float]:
    """chosen - rejected of every voter that voted on both, in order of voter."""
    return [chosen[voter] - rejected[voter] for voter in sorted(chosen.keys() & rejected.keys())]


def strength(differences: Sequence[float]) -> Strength:
    """Raises ValueError: no votes."""
    if not differences:
        raise ValueError("a pair that nobody voted on has no strength")
    n = len(differences)
    mean = math.fsum(differences) / n
    return Strength(mean, math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / n), n)


def lowest(means: Mapping[str, float], share: float) -> frozenset[str]:
    """Keys of the lowest ``share`` of ``means`` (rounded down) as far as they are below 0; of equal ones the lower key."""
    ordered = sorted(means, key=lambda key: (means[key], key))
    # 0.29 * 100 is a little less than 29.
    return frozenset(key for key in ordered[: math.floor(share * len(ordered) + 1e-9)] if means[key] < 0)


def flipped(pair: Strength) -> Strength:
    """The pair with its sides exchanged."""
    return Strength(-pair.mean, pair.std, pair.n)


def weight(pair: Strength) -> float:
    """mean^2 / (mean^2 + std^2) in [0, 1]: 1 where all agree, a half where std equals the mean, 0 where mean <= 0.

    Ours, not the paper's: the share of the differences' second moment that the voters agree on.
    """
    if pair.mean <= 0:
        return 0.0
    # By the ratio: squares of small numbers vanish.
    return 1.0 / (1.0 + (pair.std / pair.mean) ** 2) if pair.std / pair.mean < 1e150 else 0.0


def smoothing(pair: Strength) -> float:
    """Label smoothing a in [0, 0.5]: how likely another voter would say the opposite, by a normal distribution.

    For the loss -(1 - a) log s(d) - a log s(-d); the paper uses a constant a on the weakest or the strongest pairs.
    """
    if pair.std == 0:
        return 0.0 if pair.mean > 0 else 0.5
    return min(0.5, NormalDist().cdf(-pair.mean / pair.std))


def preference_loss(difference: float, *, label_smoothing: float = 0.0, margin: float = 0.0) -> float:
    """-(1 - a) log s(d - m) - a log s(m - d) of a reward difference d: what smoothing and margin mean (section 2.3).

    The margin stands inside the log-sigmoid, as in TRL; equation 6 as printed has it outside, where it has no gradient.
    """
    d = difference - margin
    return (1 - label_smoothing) * _softplus(-d) + label_smoothing * _softplus(d)


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
