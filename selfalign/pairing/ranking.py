"""Whole lists for losses that take them: RRHF (arXiv 2304.05302) and PRO (arXiv 2306.17492)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.pairing.rows import ranking
from selfalign.pairing.sides import ROUNDING, Side, distinct, order, unpaired, with_score
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, Ranking, ScoredGroup, Unpaired


class RankingBuilder:
    """All scored candidates of a prompt, best first; each text once, with its first sample.

    Ties: ``keep`` lists equal scores in order of sample (RRHF compares only unequal ones; PRO takes nothing from
    equal ones but a constant); ``drop`` lists only the first sample of each score, so that the list falls strictly.
    A list has at least two different scores. Reasons: too_few_candidates, too_few_valid_votes, identical_texts, tie.
    """

    name = "ranking"
    makes = "rankings"

    class Config(Settings):
        id: Literal["ranking"] = "ranking"
        ties: Literal["keep", "drop"] = Field("keep", description="what becomes of equal scores")

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        found = [self._ranking(group, data.round) for group in data.groups]
        return Pairing(
            rankings=tuple(row for row in found if isinstance(row, Ranking)),
            unpaired=tuple(row for row in found if isinstance(row, Unpaired)),
        )

    def _ranking(self, group: ScoredGroup, round: int) -> Ranking | Unpaired:
        if len(group.candidates) < 2:
            return unpaired(group, "too_few_candidates")
        valid = with_score(group)
        if len(valid) < 2:
            return unpaired(group, "too_few_valid_votes")
        texts = distinct(valid)
        if len(texts) < 2:
            return unpaired(group, "identical_texts")
        ranked = sorted(texts, key=lambda side: (-side.score, order(side.candidate)))
        if ranked[0].score - ranked[-1].score <= ROUNDING:
            return unpaired(group, "tie")
        listed = ranked if self.config.ties == "keep" else _first_of_each_score(ranked)
        return ranking(round, group, listed, self)


def _first_of_each_score(ranked: list[Side]) -> list[Side]:
    listed = ranked[:1]
    for side in ranked[1:]:
        if listed[-1].score - side.score > ROUNDING:
            listed.append(side)
    return listed
