"""From votes to scored groups: the mean over valid votes, or no score. Pure functions."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfalign.protocols import Judge
from selfalign.types import Candidate, Judgement, Outcome, Prompt, ScoredCandidate, ScoredGroup


@dataclass(frozen=True)
class Votes:
    """What one judge's votes on a candidate amount to; ``n_votes`` counts the valid ones."""

    score: float | None
    n_votes: int
    outcomes: dict[Outcome, int]


def aggregate(judgements: Sequence[Judgement], judge_name: str, min_valid_votes: int) -> dict[str, Votes]:
    """Candidate id -> mean over the votes of ``judge_name`` with outcome "ok".

    None where fewer than ``min_valid_votes`` are valid (Self-Rewarding LM averages 3; a candidate that
    cannot be scored has no score, and never the lowest one).
    """
    votes: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.judge == judge_name:
            votes[judgement.candidate_id].append(judgement)
    return {candidate_id: _mean(members, min_valid_votes) for candidate_id, members in votes.items()}


def group(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], judgements: Sequence[Judgement], judge: Judge
) -> list[ScoredGroup]:
    """Every prompt once, in order of prompt_id, with its candidates in order of sample_idx.

    Only votes of this very judge count (``judge_hash``): others of its name may stand beside them.
    """
    # Judges of other packages may leave the attribute out; one valid vote is what they then need.
    needed = judge.min_valid_votes
    own = [judgement for judgement in judgements if judgement.judge_hash == judge.judge_hash]
    scores = aggregate(own, judge.name, needed)
    opinions = single_votes(own)
    members: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        members[candidate.prompt_id].append(candidate)
    return [
        ScoredGroup(
            prompt,
            tuple(_scored(c, scores, opinions) for c in sorted(members[prompt.prompt_id], key=lambda c: c.sample_idx)),
            judge.name,
        )
        for prompt in sorted(prompts, key=lambda p: p.prompt_id)
    ]


def unjudged(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> list[ScoredGroup]:
    """As :func:`group` where nothing is judged: no candidate has a score."""
    members: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        members[candidate.prompt_id].append(candidate)
    return [
        ScoredGroup(
            prompt,
            tuple(
                ScoredCandidate(c, None, 0, {}) for c in sorted(members[prompt.prompt_id], key=lambda c: c.sample_idx)
            ),
            "",
        )
        for prompt in sorted(prompts, key=lambda p: p.prompt_id)
    ]


def _mean(votes: Sequence[Judgement], min_valid_votes: int) -> Votes:
    valid = [vote.score for vote in votes if vote.outcome == "ok" and vote.score is not None]
    # fsum: the same votes in another order must not break a tie.
    score = math.fsum(valid) / len(valid) if len(valid) >= max(1, min_valid_votes) else None
    return Votes(score, len(valid), dict(sorted(Counter(vote.outcome for vote in votes).items())))


def single_votes(judgements: Sequence[Judgement]) -> dict[str, dict[str, float]]:
    """Candidate id -> voter -> score, as ScoredCandidate.votes; ``judgements`` are one judge's."""
    votes: dict[str, dict[str, float]] = defaultdict(dict)
    for judgement in judgements:
        if judgement.outcome == "ok" and judgement.score is not None:
            members = _members(judgement)
            votes[judgement.candidate_id] |= members or {f"vote {judgement.sample_idx}": judgement.score}
    return votes


def _members(judgement: Judgement) -> dict[str, float]:
    """What members said, by a composite judge's row (members.MemberVote.detail)."""
    if '"members":' not in judgement.detail:
        return {}
    members = json.loads(judgement.detail).get("members")
    return {m["judge_hash"]: m["on_unit"] for m in members if m.get("on_unit") is not None} if members else {}


def _scored(
    candidate: Candidate, scores: Mapping[str, Votes], opinions: Mapping[str, Mapping[str, float]]
) -> ScoredCandidate:
    votes = scores.get(candidate.candidate_id, Votes(None, 0, {}))
    outcomes: dict[str, int] = {outcome: count for outcome, count in votes.outcomes.items()}  # noqa: C416
    single = opinions.get(candidate.candidate_id, {})
    return ScoredCandidate(candidate, votes.score, votes.n_votes, outcomes, dict(single))
