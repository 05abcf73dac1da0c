"""RSO (arXiv 2309.06657): candidates accepted as if the optimal policy had sampled them; see rejection.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from selfalign.identity import derive_seed
from selfalign.resampling.pools import Pool, RewardScale, pools
from selfalign.resampling.rejection import acceptance, iid, in_passes
from selfalign.resampling.selections import selections
from selfalign.types import ScoredGroup, Selection


class RSOResampler:
    """Accepts ``accept`` candidates a prompt, likelier the higher their reward.

    ``paper`` is the paper's algorithm 1: different candidates, all of them where a prompt has no more than ``accept``.
    They are visited in an order that is drawn by the seed, since the algorithm favours what comes first.

    ``iid`` makes exactly ``accept`` independent draws from softmax(reward / beta), with replacement, so there may be
    more of them than candidates. A candidate that is drawn again goes on to pairing once, at its first draw; ``times``
    in its row's detail counts its draws. So fewer than ``accept`` different ones may go on.

    Candidates are known by their id: equal texts are different candidates, each with its own score and chance. Where
    all rewards of a prompt are equal, every candidate has the same chance. ``probability`` in a row's detail is
    exp((reward - best of the prompt) / beta), the chance of being accepted when first visited.
    """

    name = "rso"

    class Config(RewardScale):
        id: Literal["rso"] = "rso"
        mode: Literal["paper", "iid"] = Field(
            "paper", description="paper: algorithm 1, without repeats; iid: independent draws, with repeats"
        )
        beta: float = Field(
            0.5, gt=0, allow_inf_nan=False, description="in units of the reward: the lower, the closer to the best ones"
        )
        accept: int = Field(8, ge=1, description="candidates accepted for each prompt")

        def keeps_all_of(self, candidates: int) -> bool:
            """Whether so many candidates a prompt would all be accepted."""
            return self.mode == "paper" and self.accept >= candidates

    def __init__(self, config: Config) -> None:
        self.config = config

    def resample(self, groups: Sequence[ScoredGroup], round: int, seed: int) -> list[Selection]:
        """See protocols.Resampler; neither the order of prompts nor that of candidates changes a result.

        Raises:
            BadInput: a score is NaN or infinite.
        """
        return [row for pool in pools(groups, self.config) for row in self._rows(pool, round, seed)]

    def _rows(self, pool: Pool, round: int, seed: int) -> list[Selection]:
        config = self.config
        order = sorted(range(len(pool.candidates)), key=lambda i: derive_seed(seed, pool.candidates[i].candidate_id))
        rewards = pool.rewards[order]
        stream = np.random.Generator(np.random.Philox(key=derive_seed(seed, "rso", pool.prompt_id)))
        draw = in_passes if config.mode == "paper" else iid
        times = Counter(order[i] for i in draw(rewards, config.accept, config.beta, stream))
        details = {i: {"times": n} for i, n in times.items()} if config.mode == "iid" else {}
        chances = acceptance(pool.rewards, config.beta)
        return selections(pool, list(times), chances, round, self.name, config, details)
