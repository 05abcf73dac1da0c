"""Best against worst: the pair of Self-Rewarding LM (arXiv 2401.10020, section 2.3) and RLHFlow's max_min."""

from __future__ import annotations

from typing import Literal

from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import Sides, best, can_be_chosen, objection, too_few, unpaired, with_score, worst
from selfalign.pairing.strength import VotedPairSettings
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class MaxMinBuilder:
    """At most one pair a prompt: the highest score chosen, the lowest rejected.

    Candidates without a score take no part. Among equal scores the lower ``sample_idx`` wins on both
    sides. A prompt without a pair has one of these reasons, the first that holds: too_few_candidates,
    too_few_valid_votes, no_complete_candidate, tie, margin_below_minimum, identical_texts, length_ratio; with
    ``strength`` also too_few_shared_votes and weak_preference.
    """

    name = "max_min"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["max_min"] = "max_min"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(data, self, self._pick, strength=self.config.strength)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        valid = with_score(group)
        chosen, rejected = best(can_be_chosen(valid, self.config)), worst(valid)
        if reason := objection(chosen, rejected, self.config):
            return unpaired(group, reason)
        return [(chosen, rejected)]
