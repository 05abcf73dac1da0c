"""Neighbours in the order of acceptance: RSO's first-round ranking (arXiv 2309.06657)."""

from __future__ import annotations

from typing import Literal

from selfalign.pairing.matches import MatchSettings, neighbours, pairs_of_matches
from selfalign.protocols import PairingInput
from selfalign.types import Pairing


class FirstRoundBuilder:
    """n / 2 pairs of a prompt's n candidates that share none: first and second accepted, third and fourth ...

    Without a resampler the order is that of sampling. An odd one is left over. Reasons: matches.pairs_of_matches.
    """

    name = "first_round"
    makes = "pairs"

    class Config(MatchSettings):
        id: Literal["first_round"] = "first_round"

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return candidates // 2

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return pairs_of_matches(data, neighbours, self, self.config.min_margin)
