"""A resampler that drops repeated texts: of equal ones the best-scored goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from selfalign.config import Settings
from selfalign.resampling.pools import RewardScale, pools
from selfalign.resampling.selections import selections
from selfalign.types import ScoredGroup, Selection


class DistinctResampler:
    name = "acme_distinct"

    class Config(Settings):
        id: Literal["acme_distinct"] = "acme_distinct"

    def __init__(self, config: Config) -> None:
        self.config = config

    def resample(self, groups: Sequence[ScoredGroup], round: int, seed: int) -> list[Selection]:
        """See protocols.Resampler: a row for every candidate with a score, accepted or not."""
        rows: list[Selection] = []
        for pool in pools(groups, RewardScale()):
            best: dict[str, int] = {}
            for at, candidate in enumerate(pool.candidates):
                first = best.setdefault(candidate.text.strip(), at)
                if pool.rewards[at] > pool.rewards[first]:
                    best[candidate.text.strip()] = at
            accepted = sorted(best.values())
            chance = np.isin(np.arange(len(pool.candidates)), accepted).astype(np.float64)
            rows += selections(pool, accepted, chance, round, self.name, self.config)
        return rows
