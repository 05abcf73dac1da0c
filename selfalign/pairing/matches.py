"""Candidates of a prompt against one another, two at a time: who meets whom, and what becomes of a match. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import Field

from selfalign.config import Settings
from selfalign.pairing.rows import Named, pair
from selfalign.pairing.sides import ROUNDING, Side
from selfalign.protocols import PairingInput
from selfalign.types import Pair, Pairing, ScoredCandidate, ScoredGroup, Unpaired

Match = tuple[ScoredCandidate, ScoredCandidate]


class MatchSettings(Settings):
    """What a match needs to become a pair."""

    min_margin: float = Field(0.0, ge=0, description="smallest margin; it is always above 0")


def neighbours(players: Sequence[ScoredCandidate]) -> list[Match]:
    """First against second, third against fourth ...: n // 2 matches that share no candidate."""
    return list(zip(players[::2], players[1::2], strict=False))


def knock_out(players: Sequence[ScoredCandidate]) -> list[Match]:
    """All n - 1 matches of a tournament: winners of :func:`neighbours` meet again; who has no opponent goes on.

    Of two that tie the earlier one goes on.
    """
    matches: list[Match] = []
    while len(players) > 1:
        round_ = neighbours(players)
        matches += round_
        players = [_better(*match)[0] for match in round_] + list(players[2 * len(round_) :])
    return matches


def pairs_of_matches(
    data: PairingInput, matches_of: Callable[[Sequence[ScoredCandidate]], list[Match]], builder: Named, min_margin: float
) -> Pairing:  # fmt: skip
    """A pair for every match that has a winner, in order; candidates without a score do not play.

    A match without one has a reason: identical_texts, tie or margin_below_minimum, counted in ``Pairing.skipped``. A
    prompt without a pair has the reason too_few_candidates, too_few_valid_votes, or that of most of its matches, with
    all of them in its detail.
    """
    pairs: list[Pair] = []
    unpaired: list[Unpaired] = []
    skipped: Counter[str] = Counter()
    for group in data.groups:
        players = [c for c in group.candidates if c.score is not None]
        results = [_result(match, group, data.round, builder, min_margin) for match in matches_of(players)]
        found = [result for result in results if isinstance(result, Pair)]
        reasons = Counter(result for result in results if isinstance(result, str))
        pairs += found
        skipped += reasons
        if not found:
            counts = {"candidates": len(group.candidates), "valid": len(players), **reasons}
            few = "too_few_candidates" if len(group.candidates) < 2 else "too_few_valid_votes"
            reason = min(reasons, key=lambda name: (-reasons[name], name)) if reasons else few
            unpaired.append(Unpaired(group.prompt.prompt_id, reason, counts))
    return Pairing(tuple(pairs), tuple(unpaired), skipped=dict(sorted(skipped.items())))


def _result(match: Match, group: ScoredGroup, round: int, builder: Named, min_margin: float) -> Pair | str:
    chosen, rejected = (Side(_score(one), one) for one in _better(*match))
    if chosen.text == rejected.text:
        return "identical_texts"
    margin = chosen.score - rejected.score
    if margin <= ROUNDING:
        return "tie"
    if margin < min_margin - ROUNDING:
        return "margin_below_minimum"
    return pair(round, group, chosen, rejected, builder)


def _better(first: ScoredCandidate, second: ScoredCandidate) -> Match:
    return (second, first) if _score(second) - _score(first) > ROUNDING else (first, second)


def _score(candidate: ScoredCandidate) -> float:
    assert candidate.score is not None, "candidates without a score do not play"
    return candidate.score
