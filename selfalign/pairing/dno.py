"""DNO-Prct's pairs: good answers against clearly worse ones (Direct Nash Optimization, arXiv 2404.03715).

The paper judges a student's five samples beside a teacher's answer on six additive points. The teacher's answer
is here a prompt's demonstration; without one the student's samples are filtered alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import (
    ROUNDING,
    PairSettings,
    Side,
    Sides,
    can_be_chosen,
    objection,
    order,
    too_few,
    unpaired,
    with_score,
)
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class DnoBuilder:
    """Every pair of a prompt whose chosen answer scores at least ``floor`` and whose margin is large.

    The rejected one scores at least ``min_margin`` less, or ``own_min_margin`` where the chosen one is the student's.
    A sample that repeats itself is never chosen, and rejected whatever the margin. Reasons are those of max_min,
    and chosen_below_floor. The defaults are for scores from 0 to 6, as in the paper; what counts as a
    repetition is ours.
    """

    name = "dno"
    makes = "pairs"

    class Config(PairSettings):
        id: Literal["dno"] = "dno"
        floor: float = Field(5.0, description="smallest score of a chosen answer, in the judge's units")
        min_margin: float = Field(2.0, ge=0, description="smallest margin where the demonstration is chosen")
        own_min_margin: float = Field(1.0, ge=0, description="smallest margin where a sample is chosen")
        repeated_tokens: int = Field(8, ge=1, description="an answer repeats itself if so many tokens in a row ...")
        repeated_times: int = Field(4, ge=2, description="... are in it at least so many times")

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return math.comb(candidates, 2)

    @staticmethod
    def thresholds(config: Config) -> Mapping[str, float | None]:
        """See protocols.PairBuilder."""
        return {"floor": config.floor}

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(data, self, self._pick)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        ranked = sorted(with_score(group), key=lambda side: (-side.score, order(side.candidate)))
        positives = [
            side
            for side in can_be_chosen(ranked, self.config)
            if side.score >= self.config.floor - ROUNDING and not self._repeats(side)
        ]
        if not positives:
            return unpaired(group, "chosen_below_floor")
        found = [(good, bad) for good in positives for bad in ranked if self._objection(good, bad) is None]
        return found or unpaired(group, self._objection(positives[0], ranked[-1]) or "tie")

    def _objection(self, chosen: Side, rejected: Side) -> str | None:
        own = chosen.candidate.origin != "demonstration"
        needed = self.config.own_min_margin if own else self.config.min_margin
        return objection(chosen, rejected, self.config, 0.0 if self._repeats(rejected) else needed)

    def _repeats(self, side: Side) -> bool:
        return repeats_itself(side.candidate.token_ids, self.config.repeated_tokens, self.config.repeated_times)


def repeats_itself(tokens: Sequence[int], length: int, times: int) -> bool:
    """Whether some run of ``length`` tokens is in ``tokens`` at least ``times`` times; runs may overlap."""
    runs = Counter(tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1))
    return max(runs.values(), default=0) >= times
