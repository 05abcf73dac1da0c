"""Which candidates of a prompt can be chosen or rejected, and what speaks against two of them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from selfalign.config import Settings
from selfalign.types import Candidate, ScoredCandidate, ScoredGroup, Unpaired

#: Means of the same votes may differ in the last bits: 0.6 - 0.5 is a margin of 0.1.
ROUNDING = 1e-9


class PairSettings(Settings):
    """What every builder that follows scores can be asked for."""

    min_margin: float = Field(0.0, ge=0, description="smallest margin; it is always above 0")
    max_tokens_ratio: float | None = Field(
        None, gt=0, description="no pair where chosen has more than this many times the tokens of rejected"
    )
    complete_only: bool = Field(False, description="never choose an answer that was cut off at max_tokens")


@dataclass(frozen=True)
class Side:
    """A candidate with the score that it is compared by."""

    score: float
    scored: ScoredCandidate

    @property
    def candidate(self) -> Candidate:
        """The answer itself."""
        return self.scored.candidate

    @property
    def text(self) -> str:
        """What makes two answers the same."""
        return self.candidate.text.strip()


#: The chosen side, then the rejected one.
Sides = tuple[Side, Side]


def with_score(group: ScoredGroup) -> list[Side]:
    """Candidates that have a score, in order of sample: the order that candidates come in decides nothing."""
    found = [Side(member.score, member) for member in group.candidates if member.score is not None]
    return sorted(found, key=lambda side: order(side.candidate))


def order(candidate: Candidate) -> tuple[int, str]:
    """Sorts the candidates of a prompt as they were sampled."""
    return candidate.sample_idx, candidate.candidate_id


def best(sides: Iterable[Side]) -> Side:
    """The highest score; of equal ones the lower sample. Raises ValueError: there is none."""
    return min(sides, key=lambda side: (-side.score, order(side.candidate)))


def worst(sides: Iterable[Side]) -> Side:
    """The lowest score; of equal ones the lower sample. Raises ValueError: there is none."""
    return min(sides, key=lambda side: (side.score, order(side.candidate)))


def can_be_chosen(sides: Iterable[Side], settings: PairSettings) -> list[Side]:
    """``sides`` without cut-off answers where ``complete_only`` is set."""
    return [s for s in sides if not settings.complete_only or s.candidate.finish_reason == "stop"]


def too_few(group: ScoredGroup, settings: PairSettings) -> str | None:
    """Why nothing of ``group`` makes a pair, whatever the scores say; None where something may."""
    valid = with_score(group)
    if len(group.candidates) < 2:
        return "too_few_candidates"
    if len(valid) < 2:
        return "too_few_valid_votes"
    return None if can_be_chosen(valid, settings) else "no_complete_candidate"


def objection(chosen: Side, rejected: Side, settings: PairSettings, min_margin: float | None = None) -> str | None:
    """Why ``chosen`` over ``rejected`` is no pair, the first reason that holds; None if it is one.

    ``min_margin`` replaces that of ``settings``.
    """
    margin = chosen.score - rejected.score
    if margin <= ROUNDING:
        return "tie"
    if margin < (settings.min_margin if min_margin is None else min_margin) - ROUNDING:
        return "margin_below_minimum"
    return text_objection(chosen, rejected, settings.max_tokens_ratio)


def text_objection(chosen: Side, rejected: Side, max_tokens_ratio: float | None) -> str | None:
    """As :func:`objection`, of the two texts alone."""
    if chosen.text == rejected.text:
        return "identical_texts"
    if max_tokens_ratio is not None:
        bound = max_tokens_ratio * max(1, rejected.candidate.n_tokens)
        return "length_ratio" if chosen.candidate.n_tokens > bound else None
    return None


def distinct(sides: Sequence[Side]) -> list[Side]:
    """``sides`` with each text once: the one that comes first."""
    first: dict[str, Side] = {}
    for side in sides:
        first.setdefault(side.text, side)
    return list(first.values())


def unpaired(group: ScoredGroup, reason: str) -> Unpaired:
    """Why ``group`` gave nothing, with what a person wants to know of it."""
    valid = with_score(group)
    detail: dict[str, float] = {"candidates": len(group.candidates), "valid": len(valid)}
    if len(valid) > 1:
        detail |= {"max": best(valid).score, "min": worst(valid).score}
    return Unpaired(group.prompt.prompt_id, reason, detail)
