"""Several pairs of one prompt, from its candidates in order of score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from pydantic import Field

from selfalign.identity import derive_seed
from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import (
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
from selfalign.pairing.strength import VotedPairSettings
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class AllPairsBuilder:
    """Every two candidates of a prompt that make a pair: InstructGPT's comparisons (arXiv 2203.02155, section 3.5).

    ``per_prompt`` caps them: those with the largest margins stay, or a seeded draw. InstructGPT gives the pairs of a
    prompt the weight of one together, since they repeat the same answers: ``weight: prompt``.
    """

    name = "all_pairs"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["all_pairs"] = "all_pairs"
        per_prompt: int | None = Field(6, ge=1, description="at most so many pairs a prompt; null: all")
        keep: Literal["margin", "random"] = Field("margin", description="which pairs stay where there are more")
        weight: Literal["pair", "prompt"] = Field("pair", description="what counts 1 in the loss")

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        found = math.comb(candidates, 2)
        return found if config.per_prompt is None else min(found, config.per_prompt)

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min, for the best candidate against the worst."""
        pairing = build_pairs(data, self, lambda group: self._pick(group, data.seed), strength=self.config.strength)
        return _one_a_prompt(pairing) if self.config.weight == "prompt" else pairing

    def _pick(self, group: ScoredGroup, seed: int) -> Sequence[Sides] | Unpaired:
        found = ordered_pairs(group, with_score(group), self.config)
        if isinstance(found, Unpaired) or self.config.per_prompt is None:
            return found

        def place(sides: Sides) -> float:
            chosen, rejected = sides
            if self.config.keep == "margin":
                return rejected.score - chosen.score
            ids = (chosen.candidate.candidate_id, rejected.candidate.candidate_id)
            return derive_seed(seed, self.name, group.prompt.prompt_id, *ids)

        return sorted(found, key=place)[: self.config.per_prompt]


class SlicRankBuilder:
    """SLiC-HF's sample-rank (arXiv 2305.10425): ``samples`` of a prompt's candidates, ranked, all m (m - 1) / 2 pairs.

    As with a ranker that scores one answer at a time. The m - 1 pairs of a ranker that compares two, played out
    as a tournament, are those of the builder ``tournament``. Equal scores make no pair.
    """

    name = "slic_rank"
    makes = "pairs"

    class Config(PairSettings):
        id: Literal["slic_rank"] = "slic_rank"
        samples: int = Field(8, ge=2, description="m: the first so many candidates of a prompt")

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return math.comb(min(candidates, config.samples), 2)

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min, for the best candidate against the worst."""
        return build_pairs(data, self, self._pick)

    def _pick(self, group: ScoredGroup) -> Sequence[Sides] | Unpaired:
        first = sorted(group.candidates, key=lambda c: order(c.candidate))[: self.config.samples]
        sampled = replace(group, candidates=tuple(first))
        return ordered_pairs(sampled, with_score(sampled), self.config)


def ordered_pairs(group: ScoredGroup, sides: Sequence[Side], settings: PairSettings) -> Sequence[Sides] | Unpaired:
    """Every two of ``sides`` that nothing speaks against, the higher score chosen; by rank of chosen, then of rejected."""
    if reason := too_few(group, settings):
        return unpaired(group, reason)
    ranked = sorted(sides, key=lambda side: (-side.score, order(side.candidate)))
    found = [
        (chosen, rejected)
        for chosen, rejected in combinations(ranked, 2)
        if can_be_chosen([chosen], settings) and objection(chosen, rejected, settings) is None
    ]
    if found:
        return found
    return unpaired(group, objection(can_be_chosen(ranked, settings)[0], ranked[-1], settings) or "tie")


def _one_a_prompt(pairing: Pairing) -> Pairing:
    counts: dict[str, int] = {}
    for pair in pairing.pairs:
        counts[pair.prompt_id] = counts.get(pair.prompt_id, 0) + 1
    pairs = [replace(pair, weight=pair.weight / counts[pair.prompt_id]) for pair in pairing.pairs]
    return replace(pairing, pairs=tuple(pairs))
