"""A knock-out tournament among a prompt's candidates: RSO's tournament ranking (arXiv 2309.06657), and SLiC-HF's."""

from __future__ import annotations

from typing import Literal

from selfalign.pairing.matches import MatchSettings, knock_out, pairs_of_matches
from selfalign.protocols import PairingInput
from selfalign.types import Pairing


class TournamentBuilder:
    """n - 1 pairs of a prompt's n candidates: winner over loser in every match, until one is left.

    Neighbours in the order of acceptance (without a resampler, of sampling) meet first. Of two that tie no pair is made
    and the earlier one goes on. Reasons: matches.pairs_of_matches.
    """

    name = "tournament"
    makes = "pairs"

    class Config(MatchSettings):
        id: Literal["tournament"] = "tournament"

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return max(0, candidates - 1)

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return pairs_of_matches(data, knock_out, self, self.config.min_margin)
