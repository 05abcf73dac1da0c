"""Comparisons of two candidates shown in both orders: which are made, and what they amount to. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.identity import derive_seed
from selfalign.types import JudgeItem, Outcome

Agreement = Literal["strict", "mean"]
#: Differences of probabilities below this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Two candidates of a prompt. ``a_rank`` and ``b_rank`` are their places among the prompt's candidates."""

    a: JudgeItem
    b: JudgeItem
    a_rank: int
    b_rank: int


def by_prompt(items: Sequence[JudgeItem]) -> dict[str, list[int]]:
    """Prompt id -> indices of its candidates, both in order of first appearance."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[item.prompt.prompt_id].append(index)
    return groups


def comparisons(items: Sequence[JudgeItem], opponents: int, seed_parts: Sequence[object]) -> list[Comparison]:
    """For every prompt in ``items``, each candidate against ``opponents`` others, or all where there are no more.

    Candidates stand in a ring by hash(``seed_parts``, prompt, candidate) and meet their nearest neighbours,
    so that the choice depends on neither order nor batch, and (from 2 opponents on) a chain of comparisons
    links any two.
    """
    chosen: list[Comparison] = []
    for prompt_id, members in sorted(by_prompt(items).items()):
        ranked = sorted((items[i] for i in members), key=lambda i: (i.candidate.sample_idx, i.candidate.candidate_id))
        ids = [item.candidate.candidate_id for item in ranked]
        ring = sorted(range(len(ids)), key=lambda rank: (derive_seed(0, *seed_parts, prompt_id, ids[rank]), ids[rank]))
        chosen += [
            Comparison(ranked[one], ranked[other], one, other)
            for one, other in sorted(
                (min(ring[i], ring[j]), max(ring[i], ring[j])) for i, j in ring_edges(len(ring), opponents)
            )
        ]
    return chosen


def ring_edges(n: int, degree: int) -> set[tuple[int, int]]:
    """Edges (i, j), i < j, of a graph of ``n`` nodes that each have min(``degree``, n - 1) neighbours.

    Where both are odd there is no such graph, and one node has a neighbour more. Connected from degree 2 on.
    """
    degree = min(degree, n - 1)
    steps = range(1, degree // 2 + 1)
    edges = {(min(i, (i + step) % n), max(i, (i + step) % n)) for i in range(n) for step in steps}
    if degree % 2:
        half = n // 2
        edges |= {(i, i + half) for i in range(n - half)}
    return {(i, j) for i, j in edges if i != j}


def settle(first: float, second: float, agree: Agreement) -> tuple[float | None, Outcome]:
    """(P(a better), outcome) from P(a better | a shown first) and P(a better | a shown second).

    Their mean takes a preference for a place out (MT-Bench, arXiv 2306.05685, section 3.4, swaps positions
    and calls what then differs a tie). "strict": if the orders prefer different sides, "disagree". "mean":
    the mean counts all the same. 0.5, but for rounding, is a "tie". Only "ok" has a score.
    """
    if agree == "strict" and (first - 0.5) * (second - 0.5) < 0:
        return None, "disagree"
    p = (first + second) / 2
    return (None, "tie") if abs(p - 0.5) < _ROUNDING else (p, "ok")


def keep_together(batches: Sequence[Sequence[int]], keys: Sequence[Hashable]) -> list[list[int]]:
    """``batches`` of indices with all indices of equal key moved to the first batch that has one of them.

    No batch is empty. For judges whose plan would part candidates that another one compares.
    """
    home: dict[Hashable, int] = {}
    result: list[list[int]] = [[] for _ in batches]
    for number, batch in enumerate(batches):
        for index in batch:
            result[home.setdefault(keys[index], number)].append(index)
    return [batch for batch in result if batch]
