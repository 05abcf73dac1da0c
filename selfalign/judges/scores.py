"""From votes to scored groups: the mean over valid votes, or no score. Pure functions."""

from __future__ import annotations

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
    members: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        members[candidate.prompt_id].append(candidate)
    return [
        ScoredGroup(
            prompt,
            tuple(_scored(c, scores) for c in sorted(members[prompt.prompt_id], key=lambda c: c.sample_idx)),
            judge.name,
        )
        for prompt in sorted(prompts, key=lambda p: p.prompt_id)
    ]


def _mean(votes: Sequence[Judgement], min_valid_votes: int) -> Votes:
    valid = [vote.score for vote in votes if vote.outcome == "ok" and vote.score is not None]
    # fsum: the same votes in another order must not break a tie.
    score = math.fsum(valid) / len(valid) if len(valid) >= max(1, min_valid_votes) else None
    return Votes(score, len(valid), dict(sorted(Counter(vote.outcome for vote in votes).items())))


def _scored(candidate: Candidate, scores: Mapping[str, Votes]) -> ScoredCandidate:
    votes = scores.get(candidate.candidate_id, Votes(None, 0, {}))
    outcomes: dict[str, int] = {outcome: count for outcome, count in votes.outcomes.items()}  # noqa: C416
    return ScoredCandidate(candidate, votes.score, votes.n_votes, outcomes)
