"""Best against worst where both are held against absolute scores.

A prompt on which every sample is bad has a best and a worst as well, and teaches the model to write the best of
the bad. DNO (arXiv 2404.03715) trains only on pairs whose chosen answer is good by itself and whose margin is large;
Secrets of RLHF II (arXiv 2401.06080) finds that weak pairs are the ones that are labelled wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import (
    ROUNDING,
    Sides,
    best,
    can_be_chosen,
    objection,
    too_few,
    unpaired,
    with_score,
    worst,
)
from selfalign.pairing.strength import VotedPairSettings
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class AnchoredBuilder:
    """max_min with two anchors in the judge's units: chosen scores at least one, rejected at most the other.

    Reasons are those of max_min, and chosen_below_floor and rejected_above_ceiling.
    """

    name = "anchored"
    makes = "pairs"

    class Config(VotedPairSettings):
        id: Literal["anchored"] = "anchored"
        chosen_at_least: float = Field(description="absolute score that the chosen answer must reach")
        rejected_at_most: float | None = Field(None, description="and that the rejected one must not exceed")

        @model_validator(mode="after")
        def _anchors_leave_room(self) -> AnchoredBuilder.Config:
            if self.rejected_at_most is not None and self.rejected_at_most > self.chosen_at_least:
                raise ValueError("rejected_at_most must not be above chosen_at_least; exchange them or leave one out")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def thresholds(config: Config) -> Mapping[str, float | None]:
        """See protocols.PairBuilder."""
        return {"chosen_at_least": config.chosen_at_least, "rejected_at_most": config.rejected_at_most}

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(data, self, self._pick, strength=self.config.strength)

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        valid = with_score(group)
        chosen, rejected = best(can_be_chosen(valid, self.config)), worst(valid)
        if chosen.score < self.config.chosen_at_least - ROUNDING:
            return unpaired(group, "chosen_below_floor")
        ceiling = self.config.rejected_at_most
        if ceiling is not None and rejected.score > ceiling + ROUNDING:
            return unpaired(group, "rejected_above_ceiling")
        if reason := objection(chosen, rejected, self.config):
            return unpaired(group, reason)
        return [(chosen, rejected)]
