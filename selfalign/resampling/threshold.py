"""Every candidate above a threshold: the ReST baseline of RSO (arXiv 2309.06657, section 5), rewards on [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from selfalign.resampling.pools import Normalise, Over, RewardScale, pools
from selfalign.resampling.selections import selections
from selfalign.types import ScoredGroup, Selection


class ThresholdResampler:
    """Accepts every candidate whose reward is above ``above``, best first; of equal ones the lower ``sample_idx``.

    A prompt may be left with none. Where all scores are equal the normalised ones are 0, and none is accepted.
    ``probability`` in a row's detail is 1 or 0: nothing is drawn.
    """

    name = "threshold"

    class Config(RewardScale):
        id: Literal["threshold"] = "threshold"
        normalise: Normalise = Field("min_max", description="as for rso")
        over: Over = Field("round", description="as for rso")
        above: float = Field(0.7, allow_inf_nan=False, description="rewards above this are accepted")

    def __init__(self, config: Config) -> None:
        self.config = config

    def resample(self, groups: Sequence[ScoredGroup], round: int, seed: int) -> list[Selection]:
        """See protocols.Resampler.

        Raises:
            BadInput: a score is NaN or infinite.
        """
        rows: list[Selection] = []
        for pool in pools(groups, self.config):
            above = pool.rewards > self.config.above
            kept = sorted(np.flatnonzero(above), key=lambda i: (-pool.rewards[i], pool.candidates[i].sample_idx))
            rows += selections(pool, [int(i) for i in kept], above.astype(np.float64), round, self.name, self.config)
        return rows
