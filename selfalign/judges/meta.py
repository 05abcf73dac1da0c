"""Which of a candidate's judgements is best by a meta-judge's verdicts, and pairs of them to train the judge on. Pure.

Meta-Rewarding Language Models (arXiv 2407.19594): every two judgements are compared in both orders (meta_judge.py);
wins are weighted against the position that wins more often; Elo scores are fitted by maximum likelihood (Bradley-Terry);
highest against lowest is a preference pair for the judge, unless the winner is too long.

Beyond the paper a win may be a part of one: read from logits, a verdict is a probability, and what a position adds to it
in both orders cancels out. Small models lean to one place so much that its whole wins would say nothing.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfalign.identity import content_id
from selfalign.types import JudgeItem, Judgement, JudgementPair, Message, MetaJudgement

#: Standard deviation of the normal prior on Elo: one that never lost would otherwise be infinitely strong.
_PRIOR_STD = 3.0
#: Elo scores that differ by less are equal.
_ROUNDING = 1e-9

#: candidate_id and judge_hash: whose judgements of what.
Subject = tuple[str, str]


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate and at least two :func:`comparable` judgements of it by one judge, which was shown ``messages``."""

    item: JudgeItem
    messages: tuple[Message, ...]
    judgements: tuple[Judgement, ...]

    @property
    def subject(self) -> Subject:
        return self.item.candidate.candidate_id, self.judgements[0].judge_hash


@dataclass(frozen=True)
class MetaResult:
    """``skipped`` are candidates without a pair, with the reason; ``first_share`` is the mean win of the first shown."""

    pairs: tuple[JudgementPair, ...]
    skipped: tuple[tuple[Subject, str], ...] = ()
    first_share: float | None = None


def comparable(judgements: Iterable[Judgement]) -> tuple[Judgement, ...]:
    """Those with a score and a text, in order of vote; of equal texts the first."""
    texts: dict[str, Judgement] = {}
    for judgement in sorted(judgements, key=lambda j: (j.sample_idx, j.judgement_id)):
        if judgement.score is not None and (text := judgement.raw.strip()):
            texts.setdefault(text, judgement)
    return tuple(texts.values())


def judged_candidates(
    items: Mapping[str, JudgeItem],
    judgements: Sequence[Judgement],
    messages: Mapping[Subject, tuple[Message, ...]],
) -> list[JudgedCandidate]:
    """The subjects of ``messages`` with at least two comparable judgements, in order; ``items`` are by candidate_id."""
    votes: dict[Subject, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        votes[judgement.candidate_id, judgement.judge_hash].append(judgement)
    found = {subject: comparable(votes[subject]) for subject in sorted(messages)}
    return [
        JudgedCandidate(items[subject[0]], messages[subject], own) for subject, own in found.items() if len(own) > 1
    ]


def most_disputed(candidates: Sequence[JudgedCandidate], n: int) -> list[JudgedCandidate]:
    """The ``n`` candidates whose judgements' scores vary most, in the order given: where meta-judging teaches most."""

    def variance(candidate: JudgedCandidate) -> float:
        scores = [j.score for j in candidate.judgements if j.score is not None]
        mean = math.fsum(scores) / len(scores)
        return math.fsum((score - mean) ** 2 for score in scores) / len(scores)

    kept = {c.subject for c in sorted(candidates, key=lambda c: (-variance(c), c.subject))[:n]}
    return [c for c in candidates if c.subject in kept]


def position_weights(verdicts: Sequence[MetaJudgement]) -> tuple[float, float]:
    """(weight of a win in first place, in second): each the share of wins in the other place.

    Halves where nobody has won. Counted over all verdicts of the meta-judge, not one candidate's.
    """
    share = first_share(verdicts)
    return (0.5, 0.5) if share is None else (1 - share, share)


def first_share(verdicts: Sequence[MetaJudgement]) -> float | None:
    """Mean ``p_first``: how much of all wins the judgement shown first has; None where nobody has won."""
    wins = [verdict.p_first for verdict in verdicts if verdict.p_first is not None]
    return math.fsum(wins) / len(wins) if wins else None


def battle_matrix(
    ids: Sequence[str],
    verdicts: Sequence[MetaJudgement],
    weights: tuple[float, float],
    *,
    consistent_only: bool = False,
) -> np.ndarray:
    """B (float64, [n, n]): B[i, j] is the weight of the wins of judgement ``ids[i]`` over ``ids[j]``.

    ``consistent_only``: two judgements whose orders gave different winners, or not both a winner, drew: no weight.
    """
    place = {judgement_id: number for number, judgement_id in enumerate(ids)}
    shown = {(v.first_id, v.second_id): v for v in verdicts}
    matrix = np.zeros((len(ids), len(ids)))
    for (first, second), verdict in shown.items():
        if verdict.p_first is None or (consistent_only and not _agree(verdict, shown.get((second, first)))):
            continue
        matrix[place[first], place[second]] += weights[0] * verdict.p_first
        matrix[place[second], place[first]] += weights[1] * (1 - verdict.p_first)
    return matrix


def _agree(one: MetaJudgement, other: MetaJudgement | None) -> bool:
    """Whether two verdicts on the same judgements in either order name the same winner."""
    return other is not None and None not in (one.winner, other.winner) and one.winner != other.winner


def elo(matrix: np.ndarray) -> np.ndarray:
    """Scores (float64, [n], mean 0) that maximise sum_ij B_ij log s(e_i - e_j), with a weak normal prior.

    In natural units; times 400 / ln 10 they are on the chess scale. Newton's method: the objective is strictly concave.
    """
    n = len(matrix)
    scores = np.zeros(n)
    for _ in range(100):
        expected = 1 / (1 + np.exp(-(scores[:, None] - scores[None, :])))
        played = matrix + matrix.T
        gradient = (matrix - played * expected).sum(axis=1) - scores / _PRIOR_STD**2
        curvature = played * expected * expected.T
        hessian = np.diag(curvature.sum(axis=1) + 1 / _PRIOR_STD**2) - curvature
        step = np.linalg.solve(hessian, gradient)
        scores = scores + np.clip(step, -1, 1)
        if float(np.abs(step).max(initial=0.0)) < 1e-10:
            break
    return scores - scores.mean() if n else scores


def best_and_worst(
    scores: Sequence[float], lengths: Sequence[int], max_length_ratio: float | None = None, min_margin: float = 0.0
) -> tuple[int, int] | str:
    """Indices of the highest and the lowest score (lower index among equals), or why there is no pair.

    Reasons: "tie" (all equal), "margin" (below ``min_margin``), "length_ratio" (the best is more than so many times as long as the worst).
    """
    best = min(range(len(scores)), key=lambda i: (-scores[i], i))
    worst = min(range(len(scores)), key=lambda i: (scores[i], i))
    if scores[best] - scores[worst] <= _ROUNDING:
        return "tie"
    if scores[best] - scores[worst] < min_margin:
        return "margin"
    if max_length_ratio is not None and lengths[best] > max_length_ratio * max(1, lengths[worst]):
        return "length_ratio"
    return best, worst


def judgement_pairs(
    candidates: Sequence[JudgedCandidate],
    verdicts: Sequence[MetaJudgement],
    round: int,
    *,
    max_length_ratio: float | None = None,
    min_margin: float = 0.0,
    consistent_only: bool = False,
    limit: int | None = None,
) -> MetaResult:
    """At most one pair a candidate, and ``limit`` in all: those with the largest margins, the others for "share".

    Other reasons are those of :func:`best_and_worst`, "no_verdict", and "too_long" where nothing fitted. Lengths are of
    the raw text in characters.
    """
    weights = position_weights(verdicts)
    by_subject: dict[Subject, list[MetaJudgement]] = defaultdict(list)
    for verdict in verdicts:
        by_subject[verdict.candidate_id, verdict.judge_hash].append(verdict)
    found = [
        (
            c.subject,
            _pair_or_reason(c, by_subject[c.subject], round, weights, max_length_ratio, min_margin, consistent_only),
        )
        for c in candidates
    ]
    pairs = [pair for _, pair in found if not isinstance(pair, str)]
    skipped = [(subject, reason) for subject, reason in found if isinstance(reason, str)]
    clearest = sorted(pairs, key=lambda pair: (-pair.margin, pair.pair_id))
    skipped += [((pair.candidate_id, pair.judge_hash), "share") for pair in clearest[len(pairs[:limit]) :]]
    return MetaResult(tuple(clearest[:limit]), tuple(skipped), first_share(verdicts))


def _pair_or_reason(
    candidate: JudgedCandidate,
    verdicts: Sequence[MetaJudgement],
    round: int,
    weights: tuple[float, float],
    max_length_ratio: float | None,
    min_margin: float,
    consistent_only: bool,
) -> JudgementPair | str:
    decided = sum(verdict.winner is not None for verdict in verdicts)
    if not decided:
        return "too_long" if all(verdict.outcome == "truncated" for verdict in verdicts) else "no_verdict"
    own = candidate.judgements
    ids = [judgement.judgement_id for judgement in own]
    scores = elo(battle_matrix(ids, verdicts, weights, consistent_only=consistent_only)).tolist()
    found = best_and_worst(scores, [len(judgement.raw) for judgement in own], max_length_ratio, min_margin)
    if isinstance(found, str):
        return found
    best, worst = found
    return JudgementPair(
        pair_id=content_id("judgement_pair", round, candidate.subject[0], ids[best], ids[worst]),
        round=round,
        candidate_id=candidate.subject[0],
        judge=own[best].judge,
        judge_hash=own[best].judge_hash,
        messages=json.dumps([dict(message) for message in candidate.messages], ensure_ascii=False),
        chosen_id=ids[best],
        rejected_id=ids[worst],
        chosen_elo=scores[best],
        rejected_elo=scores[worst],
        margin=scores[best] - scores[worst],
        n_verdicts=decided,
        weight=1.0,
    )
