"""The best candidates of each prompt: best-of-K, as RAFT (arXiv 2304.06767) ranks where it ranks locally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from selfalign.config import Settings
from selfalign.resampling.pools import RewardScale, pools
from selfalign.resampling.selections import selections
from selfalign.types import ScoredGroup, Selection


class TopKResampler:
    """Accepts the ``accept`` highest scores a prompt, best first; of equal scores the lower ``sample_idx``.

    ``probability`` in a row's detail is 1 or 0: nothing is drawn. RSO with beta -> 0 accepts the same scores.
    """

    name = "top_k"

    class Config(Settings):
        id: Literal["top_k"] = "top_k"
        accept: int = Field(8, ge=1, description="candidates accepted for each prompt")

        def keeps_all_of(self, candidates: int) -> bool:
            """Whether so many candidates a prompt would all be accepted."""
            return self.accept >= candidates

    def __init__(self, config: Config) -> None:
        self.config = config

    def resample(self, groups: Sequence[ScoredGroup], round: int, seed: int) -> list[Selection]:
        """See protocols.Resampler.

        Raises:
            BadInput: a score is NaN or infinite.
        """
        rows: list[Selection] = []
        for pool in pools(groups, RewardScale()):
            ranked = sorted(
                range(len(pool.candidates)), key=lambda i: (-pool.rewards[i], pool.candidates[i].sample_idx)
            )
            best = ranked[: self.config.accept]
            chosen = np.isin(np.arange(len(ranked)), best).astype(np.float64)
            rows += selections(pool, best, chosen, round, self.name, self.config)
        return rows
