"""Self-Play Preference Optimisation (arXiv 2405.00675; code: uclaml/SPPO, compute_prob.py): pairs with win rates.

Its loss draws log-ratios towards win rates against the prompt's own samples, so that a pair's scores are these and
not the judge's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from selfalign.pairing.rows import build_pairs, score_note
from selfalign.pairing.sides import (
    PairSettings,
    Side,
    Sides,
    best,
    can_be_chosen,
    objection,
    too_few,
    unpaired,
    with_score,
    worst,
)
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, Unpaired


class SppoBuilder:
    """The highest win rate against the lowest; ``chosen_score`` and ``rejected_score`` are these, ``margin`` between them.

    A candidate's win rate is the mean over all scored candidates j of the prompt, itself among them (one half), of
    P_ij = sigmoid(scale x (s_i - s_j)). Where the judge compares candidates, its score is already the mean of P_ij
    over the others, and only the half is added. The judge's scores are kept in an event pair_score.
    """

    name = "sppo"
    makes = "pairs"

    class Config(PairSettings):
        id: Literal["sppo"] = "sppo"
        scores: Literal["auto", "rewards", "win_rates"] = Field(
            "auto", description="what the judge's scores are; auto: win_rates for the judge 'pairwise', else rewards"
        )
        scale: float = Field(1.0, gt=0, description="with rewards: how many nats a score unit is worth")

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; reasons as those of max_min, margins being those of win rates."""
        return build_pairs(data, self, self._pick, note=partial(score_note, reason="win_rate"))

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        if reason := too_few(group, self.config):
            return unpaired(group, reason)
        sides = self._sides(group)
        chosen, rejected = best(can_be_chosen(sides, self.config)), worst(sides)
        if reason := objection(chosen, rejected, self.config):
            return unpaired(group, reason)
        return [(chosen, rejected)]

    def _sides(self, group: ScoredGroup) -> list[Side]:
        scored = with_score(group)
        scores = [side.score for side in scored]
        compared = group.judge == "pairwise" if self.config.scores == "auto" else self.config.scores == "win_rates"
        rates = (
            [with_itself(score, len(scores)) for score in scores] if compared else win_rates(scores, self.config.scale)
        )
        return [Side(rate, side.scored) for rate, side in zip(rates, scored, strict=True)]


def win_rates(scores: Sequence[float], scale: float = 1.0) -> list[float]:
    """Mean over all j (i itself included) of sigmoid(scale (s_i - s_j)), for each i; the rates' mean is one half."""
    n = len(scores)
    return [math.fsum(_sigmoid(scale * (score - other)) for other in scores) / n for score in scores]


def with_itself(mean_against_others: float, n: int) -> float:
    """The win rate against all ``n`` candidates of one that wins ``mean_against_others`` of the other n - 1."""
    return (mean_against_others * (n - 1) + 0.5) / n


def _sigmoid(value: float) -> float:
    # In the form that does not overflow.
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
