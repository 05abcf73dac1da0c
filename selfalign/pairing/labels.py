"""Candidates labelled one by one: wanted or not, by thresholds (KTO), and only the best of them (RAFT, ReST)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.pairing.rows import label
from selfalign.pairing.sides import ROUNDING, Side, distinct, order, unpaired, with_score
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredGroup, UnaryLabel

#: True for wanted, False for not wanted, None for neither.
Verdict = Callable[[Side], bool | None]


class ThresholdLabelsBuilder:
    """Wanted and unwanted answers for KTO (arXiv 2402.01306): high scores, low scores; the rest is left out.

    ``by: score`` holds scores against two thresholds of the judge's scale. ``by: share`` takes the best and the worst
    share of the round's scores; ties at the cut are on its side, and a score on both sides is left out. A text counts
    once a prompt, with its first sample. Reasons: too_few_candidates (none), too_few_valid_votes, between_thresholds,
    no_complete_candidate (all that would be wanted were cut off).
    """

    name = "threshold_labels"
    makes = "labels"

    class Config(Settings):
        id: Literal["threshold_labels"] = "threshold_labels"
        by: Literal["score", "share"] = Field("score", description="what the next two are: scores, or shares of all")
        desirable: float = Field(4.0, description="wanted from this score on; with by: share, this share of all")
        undesirable: float = Field(2.0, description="not wanted up to this score; with by: share, this share of all")
        complete_only: bool = Field(False, description="never want an answer that was cut off at max_tokens")

        @model_validator(mode="after")
        def _are_apart(self) -> ThresholdLabelsBuilder.Config:
            if self.by == "score" and not self.undesirable < self.desirable:
                raise ValueError("undesirable must be below desirable, in the judge's units")
            if self.by == "share" and not (
                self.desirable > 0 and self.undesirable > 0 and self.desirable + self.undesirable <= 1
            ):
                raise ValueError(
                    "with by: share, desirable and undesirable are shares above 0 that add up to at most 1"
                )
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> float:
        """See protocols.PairBuilder."""
        return candidates if config.by == "score" else (config.desirable + config.undesirable) * candidates

    @staticmethod
    def thresholds(config: Config) -> Mapping[str, float | None]:
        """See protocols.PairBuilder."""
        return {"desirable": config.desirable, "undesirable": config.undesirable} if config.by == "score" else {}

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        low, high = self.config.undesirable, self.config.desirable
        if self.config.by == "share":
            scores = sorted(side.score for group in data.groups for side in distinct(with_score(group)))
            low, high = cuts(scores, low, high) if scores else (0.0, 0.0)

        def verdict(side: Side) -> bool | None:
            wanted, unwanted = side.score >= high - ROUNDING, side.score <= low + ROUNDING
            return None if wanted == unwanted else wanted

        return _label(data, self, verdict, self.config.complete_only, otherwise="between_thresholds")


class BestOfBuilder:
    """Only the best answers, all of them wanted: what supervised fine-tuning trains on.

    ``local`` keeps the ``keep`` best of each prompt: RAFT (arXiv 2304.06767). ``global`` keeps the best ``share`` of
    the round, as LMFlow's RAFT also does, which favours easy prompts. ``threshold`` keeps what scores above ``above``
    once the round's scores are put on [0, 1]: ReST (arXiv 2308.08998) as RSO's comparison has it. A text counts once a
    prompt. Of equal scores the lower sample is taken (local), or the prompt whose id comes first (global). Reasons:
    too_few_candidates (none), too_few_valid_votes, no_complete_candidate, not_among_the_best.
    """

    name = "best_of"
    makes = "labels"
    #: There are no unwanted answers: nothing for a loss that needs both.
    only_desirable = True

    class Config(Settings):
        id: Literal["best_of"] = "best_of"
        strategy: Literal["local", "global", "threshold"] = Field(
            "local", description="the best of each prompt, the best share of all, or all above a threshold"
        )
        keep: int = Field(1, ge=1, description="local: so many a prompt")
        share: float = Field(0.2, gt=0, le=1, description="global: this share of the round's scored answers")
        above: float = Field(0.7, ge=0, lt=1, description="threshold: on [0, 1], the round's lowest and highest score")
        complete_only: bool = Field(False, description="never keep an answer that was cut off at max_tokens")

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> float:
        """See protocols.PairBuilder."""
        if config.strategy == "local":
            return min(config.keep, candidates)
        return config.share * candidates if config.strategy == "global" else candidates

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        own = {
            group.prompt.prompt_id: [
                s for s in distinct(with_score(group)) if not self.config.complete_only or _whole(s)
            ]
            for group in data.groups
        }
        kept = {side.candidate.candidate_id for side in self._kept(own)}

        def verdict(side: Side) -> bool | None:
            return True if side.candidate.candidate_id in kept else None

        return _label(data, self, verdict, self.config.complete_only, otherwise="not_among_the_best")

    def _kept(self, own: Mapping[str, Sequence[Side]]) -> list[Side]:
        if self.config.strategy == "local":
            return [side for sides in own.values() for side in sorted(sides, key=_by_score)[: self.config.keep]]
        everybody = [side for prompt_id in sorted(own) for side in own[prompt_id]]
        if self.config.strategy == "global":
            # 0.29 * 100 is a little less than 29; one is always kept.
            count = max(1, math.floor(self.config.share * len(everybody) + ROUNDING))
            return sorted(everybody, key=lambda side: -side.score)[:count]
        if not everybody:
            return []
        low, high = min(s.score for s in everybody), max(s.score for s in everybody)
        if high - low <= ROUNDING:
            return []
        return [side for side in everybody if (side.score - low) / (high - low) > self.config.above + ROUNDING]


def cuts(scores: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    """The scores at which the ``lowest`` and the ``highest`` share of ``scores`` (ascending, not empty) end; at least one each."""
    n = len(scores)
    low, high = (max(1, math.floor(share * n + ROUNDING)) for share in (lowest, highest))
    return scores[low - 1], scores[n - high]


def _label(
    data: PairingInput,
    builder: ThresholdLabelsBuilder | BestOfBuilder,
    verdict: Verdict,
    complete_only: bool,
    otherwise: str,
) -> Pairing:
    labels: list[UnaryLabel] = []
    reasons = []
    for group in data.groups:
        sides = distinct(with_score(group))
        verdicts = [(side, verdict(side)) for side in sides]
        made = [
            label(data.round, group, side, wanted, builder)
            for side, wanted in verdicts
            if wanted is not None and not (wanted and complete_only and not _whole(side))
        ]
        labels += made
        if not made:
            cut_off = any(wanted for _, wanted in verdicts) or not any(_whole(side) for side in sides)
            reason = "no_complete_candidate" if complete_only and sides and cut_off else _reason(group, otherwise)
            reasons.append(unpaired(group, reason))
    return Pairing(labels=tuple(labels), unpaired=tuple(reasons))


def _reason(group: ScoredGroup, otherwise: str) -> str:
    if not group.candidates:
        return "too_few_candidates"
    return otherwise if with_score(group) else "too_few_valid_votes"


def _whole(side: Side) -> bool:
    return side.candidate.finish_reason == "stop"


def _by_score(side: Side) -> tuple[float, tuple[int, str]]:
    return -side.score, order(side.candidate)
