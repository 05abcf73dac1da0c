"""What a resampler works on: the scored candidates of each prompt, with rewards on the scale that it asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from selfalign.config import Settings
from selfalign.errors import BadInput
from selfalign.types import Candidate, ScoredCandidate, ScoredGroup

Normalise = Literal["none", "zscore", "min_max"]
Over = Literal["prompt", "round"]

#: Means of votes that amount to the same may differ in the last bits, which no scale must blow up.
_ROUNDING = 1e-9


class RewardScale(Settings):
    """How the judge's scores become rewards."""

    normalise: Normalise = Field(
        "none", description="zscore: mean 0, standard deviation 1; min_max: lowest 0, highest 1; none: the scores"
    )
    over: Over = Field("prompt", description="which scores normalise is about")


@dataclass(frozen=True)
class Pool:
    """The candidates of one prompt that have a score; all three line up, [k] with k >= 1."""

    prompt_id: str
    candidates: tuple[Candidate, ...]
    #: the judge's means
    scores: NDArray[np.float64]
    #: the same as ``RewardScale`` says
    rewards: NDArray[np.float64]


def pools(groups: Sequence[ScoredGroup], scale: RewardScale) -> list[Pool]:
    """A pool for every prompt with a scored candidate; candidates without a score are none.

    Raises:
        BadInput: a score is NaN or infinite; nothing has been drawn.
    """
    scored = [(group.prompt.prompt_id, [c for c in group.candidates if c.score is not None]) for group in groups]
    members = [(prompt_id, candidates) for prompt_id, candidates in scored if candidates]
    scores = [_finite(prompt_id, candidates) for prompt_id, candidates in members]
    whole = np.concatenate(scores) if scores else np.zeros(0)
    return [
        Pool(
            prompt_id, tuple(c.candidate for c in candidates), own,
            normalised(own, whole if scale.over == "round" else own, scale.normalise),
        )
        for (prompt_id, candidates), own in zip(members, scores, strict=True)
    ]  # fmt: skip


def normalised(scores: NDArray[np.float64], among: NDArray[np.float64], how: Normalise) -> NDArray[np.float64]:
    """``scores`` on the scale of ``among``. Where those are all equal, none is better than another: 0 for each."""
    if how == "none":
        return scores
    # Of size 1 first: the range of huge scores overflows, and the deviation of tiny ones vanishes.
    size = np.abs(among).max(initial=0)
    if size == 0 or np.ptp(among / size) <= _ROUNDING:
        return np.zeros_like(scores)
    known = among / size
    low, width = (known.mean(), known.std()) if how == "zscore" else (known.min(), np.ptp(known))
    found: NDArray[np.float64] = (scores / size - low) / width
    return found


def _finite(prompt_id: str, candidates: Sequence[ScoredCandidate]) -> NDArray[np.float64]:
    for c in candidates:
        if c.score is not None and not math.isfinite(c.score):
            raise BadInput(
                f"prompt {prompt_id}: candidate {c.candidate.candidate_id} has the score {c.score}, which no resampler "
                f"can weigh; the judge must give a number, or an outcome other than ok and no score"
            )
    return np.array([c.score for c in candidates], dtype=np.float64)
