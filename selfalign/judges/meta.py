"""A model judges its own judgements: which of k judgements of a candidate is best, and pairs of them to train on.

Meta-Rewarding Language Models (arXiv 2407.19594): every two judgements are compared in both orders;
wins are weighted against the position that wins more often; Elo scores are fitted by maximum likelihood (Bradley-Terry);
highest against lowest is a preference pair for the judge, unless the winner is too long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Literal

import numpy as np

from selfalign.errors import PromptFileError
from selfalign.identity import content_id, derive_seed
from selfalign.protocols import Engine
from selfalign.templates import Template
from selfalign.types import Completion, GenerationRequest, JudgeItem, Judgement, Message, SamplingParams

VARIABLES = ("instruction", "response", "judgement_a", "judgement_b")
_VERDICT = re.compile(r"\bwinner\b[^\w\n]{0,6}(?:judgement\s+)?\W{0,4}([AB])\b(?!\s+or\b)", re.IGNORECASE)
#: Standard deviation of the normal prior on Elo: one that never lost would otherwise be infinitely strong.
_PRIOR_STD = 3.0

Verdict = Literal["first", "second"]


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate and at least two judgements of it, all with a score."""

    item: JudgeItem
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True)
class Battle:
    """Judgement ``first`` was shown before ``second``; ``winner`` is None where the answer names none."""

    first: int
    second: int
    winner: Verdict | None
    raw: str = ""


@dataclass(frozen=True)
class JudgementPair:
    """Two judgements of one candidate, the better and the worse; ``messages`` is what the judge was shown.

    ``margin`` is the difference of Elo in natural units: the log-odds that chosen wins.
    """

    pair_id: str
    candidate_id: str
    messages: tuple[Message, ...]
    chosen: Judgement
    rejected: Judgement
    margin: float


@dataclass(frozen=True)
class MetaResult:
    """``skipped`` counts candidates without a pair by reason; ``first_share`` is how often the first shown won."""

    pairs: tuple[JudgementPair, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    first_share: float | None = None


def parse_verdict(raw: str) -> Verdict | None:
    """The last "Winner: A" or "Winner: B"; None where there is none."""
    found = _VERDICT.findall(raw)
    return None if not found else ("first" if found[-1].upper() == "A" else "second")


def position_weights(battles: Sequence[Battle]) -> tuple[float, float]:
    """(weight of a win in first place, in second): each the share of wins in the other place.

    Halves where nobody has won. Counted over all battles of the meta-judge, not one candidate's.
    """
    first = sum(battle.winner == "first" for battle in battles)
    second = sum(battle.winner == "second" for battle in battles)
    total = first + second
    return (second / total, first / total) if total else (0.5, 0.5)


def battle_matrix(
    n: int, battles: Sequence[Battle], weights: tuple[float, float], *, consistent_only: bool = False
) -> np.ndarray:
    """B (float64, [n, n]): B[i, j] is the weight of i's wins over j.

    ``consistent_only``: two judgements whose orders gave different winners, or not both a winner, drew: no weight.
    """
    winners = {
        (b.first, b.second): (b.first if b.winner == "first" else b.second) if b.winner else None for b in battles
    }
    matrix = np.zeros((n, n))
    for battle in battles:
        winner = winners[battle.first, battle.second]
        if winner is None or (consistent_only and winners.get((battle.second, battle.first)) != winner):
            continue
        loser = battle.second if winner == battle.first else battle.first
        matrix[winner, loser] += weights[0] if winner == battle.first else weights[1]
    return matrix


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
    scores: Sequence[float], lengths: Sequence[int], max_length_ratio: float | None = None
) -> tuple[int, int] | str:
    """Indices of the highest and the lowest score (lower index among equals), or why there is no pair.

    Reasons: "tie" (all equal), "length_ratio" (the best is more than so many times as long as the worst).
    """
    best = min(range(len(scores)), key=lambda i: (-scores[i], i))
    worst = min(range(len(scores)), key=lambda i: (scores[i], i))
    if scores[best] - scores[worst] <= 1e-9:
        return "tie"
    if max_length_ratio is not None and lengths[best] > max_length_ratio * max(1, lengths[worst]):
        return "length_ratio"
    return best, worst


def judge_judgements(
    engine: Engine,
    template: Template,
    candidates: Sequence[JudgedCandidate],
    params: SamplingParams,
    run_seed: int,
    round: int,
) -> list[list[Battle]]:
    """For each candidate its battles: every ordered pair of its judgements, asked once.

    A question that does not fit the model's window has no winner.

    Raises:
        PromptFileError: the template does not show what is to be compared.
    """
    if sorted(template.variables) != sorted(VARIABLES):
        raise PromptFileError(f"{template.path}: a meta-judge prompt has the variables {', '.join(VARIABLES)}")
    asked = [
        (number, first, second)
        for number, candidate in enumerate(candidates)
        for first, second in permutations(range(len(candidate.judgements)), 2)
    ]
    requests = [_request(template, candidates[n], first, second, run_seed, round) for n, first, second in asked]
    lengths = [len(engine.encode_prompt(request.messages)) for request in requests]
    fitting = [i for i, length in enumerate(lengths) if length + params.max_tokens <= engine.context_length]
    answers: dict[int, Completion] = {}
    for batch in engine.plan([lengths[i] for i in fitting], 1, params.max_tokens):
        members = [fitting[i] for i in batch]
        made = engine.generate([requests[i] for i in members], params)
        answers |= {i: completions[0] for i, completions in zip(members, made, strict=True)}
    battles: list[list[Battle]] = [[] for _ in candidates]
    for i, (number, first, second) in enumerate(asked):
        text = answers[i].text if i in answers else ""
        battles[number].append(Battle(first, second, parse_verdict(text), text))
    return battles


def judgement_pairs(
    candidates: Sequence[JudgedCandidate],
    battles: Sequence[Sequence[Battle]],
    rubric: Template,
    *,
    max_length_ratio: float | None = None,
    consistent_only: bool = False,
) -> MetaResult:
    """At most one pair a candidate, to train the judge of ``rubric`` on. Lengths are of the raw text in characters."""
    everything = [battle for own in battles for battle in own]
    weights = position_weights(everything)
    pairs: list[JudgementPair] = []
    skipped: dict[str, int] = {}
    for candidate, own in zip(candidates, battles, strict=True):
        scores = elo(battle_matrix(len(candidate.judgements), own, weights, consistent_only=consistent_only)).tolist()
        found = best_and_worst(scores, [len(j.raw) for j in candidate.judgements], max_length_ratio)
        if not isinstance(found, str):
            best, worst = candidate.judgements[found[0]], candidate.judgements[found[1]]
            if best.raw.strip() != worst.raw.strip():
                pairs.append(_pair(candidate, rubric, best, worst, scores[found[0]] - scores[found[1]]))
                continue
            found = "identical_texts"
        skipped[found] = skipped.get(found, 0) + 1
    decided = [battle.winner for battle in everything if battle.winner]
    share = decided.count("first") / len(decided) if decided else None
    return MetaResult(tuple(pairs), skipped, share)


def most_disputed(candidates: Sequence[JudgedCandidate], n: int) -> list[JudgedCandidate]:
    """The ``n`` candidates whose judgements' scores vary most, in the order given: where meta-judging teaches most."""

    def variance(candidate: JudgedCandidate) -> float:
        scores = [j.score for j in candidate.judgements if j.score is not None]
        mean = math.fsum(scores) / len(scores) if scores else 0.0
        return math.fsum((score - mean) ** 2 for score in scores) / len(scores) if scores else 0.0

    order = sorted(candidates, key=lambda c: (-variance(c), c.item.candidate.candidate_id))
    kept = {c.item.candidate.candidate_id for c in order[:n]}
    return [c for c in candidates if c.item.candidate.candidate_id in kept]


def _pair(
    candidate: JudgedCandidate, rubric: Template, best: Judgement, worst: Judgement, margin: float
) -> JudgementPair:
    item = candidate.item
    messages = rubric.messages(instruction=item.prompt.text, response=item.candidate.text)
    ids: list[Any] = [item.candidate.candidate_id, best.judgement_id, worst.judgement_id]
    return JudgementPair(content_id("judgement_pair", *ids), ids[0], messages, best, worst, margin)


def _request(
    template: Template, candidate: JudgedCandidate, first: int, second: int, run_seed: int, round: int
) -> GenerationRequest:
    one, other = candidate.judgements[first], candidate.judgements[second]
    messages = template.messages(
        instruction=candidate.item.prompt.text, response=candidate.item.candidate.text, judgement_a=one.raw,
        judgement_b=other.raw,
    )  # fmt: skip
    name = f"{one.judgement_id}:{other.judgement_id}"
    seed = derive_seed(run_seed, round, "meta_judge", one.judgement_id, other.judgement_id, template.hash)
    return GenerationRequest(name, messages, (seed,))
