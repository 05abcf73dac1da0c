"""RLHFlow's other ways to pick two of a prompt's candidates (arXiv 2405.07863; code: Online-RLHF, run_dpo.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from selfalign.identity import derive_seed
from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import Side, Sides, best, can_be_chosen, objection, too_few, unpaired, with_score, worst
from selfalign.pairing.strength import VotedPairSettings
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class MaxRandomBuilder:
    """The highest score chosen, and one of those that make a pair with it rejected, each as likely.

    Drawn from hash(round's seed, prompt). RLHFlow takes the first of the others and drops the prompt where the two
    are equal; as samples are exchangeable, what it keeps is distributed as here.
    """

    name = "max_random"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["max_random"] = "max_random"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min."""
        return build_pairs(data, self, lambda group: self._pick(group, data.seed), strength=self.config.strength)

    def _pick(self, group: ScoredGroup, seed: int) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        valid = with_score(group)
        chosen = best(can_be_chosen(valid, self.config))
        fitting = [side for side in valid if objection(chosen, side, self.config) is None]
        if not fitting:
            return unpaired(group, objection(chosen, worst(valid), self.config) or "tie")
        return [(chosen, fitting[derive_seed(seed, self.name, group.prompt.prompt_id) % len(fitting)])]


class MaxMaxBuilder:
    """The highest score chosen, the second highest rejected; where these two are equal there is no pair."""

    name = "max_max"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["max_max"] = "max_max"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min."""
        return build_pairs(data, self, self._pick, strength=self.config.strength)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        valid = with_score(group)
        chosen = best(can_be_chosen(valid, self.config))
        # With complete_only a cut-off answer may score higher than the best whole one.
        second = best(side for side in valid if side is not chosen)
        if reason := objection(chosen, second, self.config):
            return unpaired(group, reason)
        return [(chosen, second)]


class MaxMinPenaltyBuilder:
    """max_min after a price on length: the highest and the lowest ``score - length_penalty x tokens`` are paired.

    As in RLHFlow's code the price only says which two; the one with the higher score is chosen, and the margin is that
    of the scores. RLHFlow counts characters, this tokens. For scores that carry the price, see the judge ``length``.
    """

    name = "max_min_p"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["max_min_p"] = "max_min_p"
        length_penalty: float = Field(0.001, ge=0, allow_inf_nan=False, description="score units a token")

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min."""
        return build_pairs(data, self, self._pick, strength=self.config.strength)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        priced = [replace(side, score=self._priced(side)) for side in with_score(group)]
        ends = [_as_judged(side) for side in (best(priced), worst(priced))]
        chosen, rejected = best(ends), worst(ends)
        if not can_be_chosen([chosen], self.config):
            return unpaired(group, "no_complete_candidate")
        if reason := objection(chosen, rejected, self.config):
            return unpaired(group, reason)
        return [(chosen, rejected)]

    def _priced(self, side: Side) -> float:
        return side.score - self.config.length_penalty * side.candidate.n_tokens


def _as_judged(side: Side) -> Side:
    assert side.scored.score is not None, "a side has a score"
    return replace(side, score=side.scored.score)
