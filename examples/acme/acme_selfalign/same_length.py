"""A pair builder: the best answer against the worse one whose length is nearest, so that length teaches nothing."""

from __future__ import annotations

from typing import Literal

from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import PairSettings, Sides, best, objection, order, too_few, unpaired, with_score
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class SameLengthBuilder:
    name = "acme_same_length"
    makes = "pairs"

    class Config(PairSettings):
        id: Literal["acme_same_length"] = "acme_same_length"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder: every prompt gives pairs, or one reason why it gives none."""
        return build_pairs(data, self, self._pick)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        chosen = best(with_score(group))
        others = [side for side in with_score(group) if side is not chosen]
        worse = [side for side in others if objection(chosen, side, self.config) is None]
        if not worse:
            return unpaired(group, "nothing_worse")
        length = chosen.candidate.n_tokens
        return [(chosen, min(worse, key=lambda side: (abs(side.candidate.n_tokens - length), order(side.candidate))))]
