"""Short good answers against long bad ones: Meta-Rewarding's length control (arXiv 2407.19594).

Its top tier is [(1 - rho) max + rho min, max] of a prompt's scores, its bottom tier [min, (1 - rho) min + rho max].
rho 0 is best against worst, and a larger one trades score for length.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import (
    ROUNDING,
    Side,
    Sides,
    best,
    can_be_chosen,
    objection,
    order,
    too_few,
    unpaired,
    with_score,
    worst,
)
from selfalign.pairing.strength import VotedPairSettings
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class LengthBandBuilder:
    """At most one pair a prompt: the shortest answer of the top tier chosen, the longest of the bottom tier rejected.

    Length is in tokens; of equally long ones the lower ``sample_idx`` is taken. Round t uses the t-th ``rho``, and
    the last one from then on.
    """

    name = "length_band"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["length_band"] = "length_band"
        # From a half on the tiers would meet, and an answer could be both.
        rho: list[Annotated[float, Field(ge=0, lt=0.5)]] = Field(
            default_factory=lambda: [0.0, 0.2], min_length=1, description="share of the scores' range, by round"
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min."""
        rho = self.config.rho[min(max(data.round, 1), len(self.config.rho)) - 1]
        return build_pairs(data, self, lambda group: self._pick(group, rho), strength=self.config.strength)

    def _pick(self, group: ScoredGroup, rho: float) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        valid = with_score(group)
        high, low = best(valid).score, worst(valid).score
        top = can_be_chosen([s for s in valid if s.score >= (1 - rho) * high + rho * low - ROUNDING], self.config)
        if not top:
            return unpaired(group, "no_complete_candidate")
        bottom = [s for s in valid if s.score <= (1 - rho) * low + rho * high + ROUNDING]
        chosen = min(top, key=_shortest)
        rejected = min(bottom, key=_longest)
        if reason := objection(chosen, rejected, self.config):
            return unpaired(group, reason)
        return [(chosen, rejected)]


def _shortest(side: Side) -> tuple[int, tuple[int, str]]:
    return side.candidate.n_tokens, order(side.candidate)


def _longest(side: Side) -> tuple[int, tuple[int, str]]:
    return -side.candidate.n_tokens, order(side.candidate)
