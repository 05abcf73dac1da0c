"""What all judges share: how a judgement becomes a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selfalign.identity import canonical, content_id
from selfalign.protocols import Judge
from selfalign.types import JudgeItem, Judgement, Outcome

#: Candidates in a batch of a judge that needs no model.
BATCH = 256


def row(
    judge: Judge,
    round: int,
    item: JudgeItem,
    outcome: Outcome,
    *,
    score: float | None = None,
    detail: Mapping[str, Any],
    raw: str = "",
    sample_idx: int = 0,
    seed: int | None = None,
    weights_hash: str | None = None,
) -> Judgement:
    """A vote of ``judge`` on ``item``; its id is what it depends on, so that a repeated vote is the same row."""
    candidate_id = item.candidate.candidate_id
    return Judgement(
        judgement_id=content_id("judgement", candidate_id, judge.judge_hash, weights_hash or "", sample_idx),
        candidate_id=candidate_id,
        round=round,
        judge=judge.name,
        judge_hash=judge.judge_hash,
        weights_hash=weights_hash,
        sample_idx=sample_idx,
        score=score,
        outcome=outcome,
        raw=raw,
        seed=seed,
        detail=canonical(dict(detail)),
    )


def plain_batches(items: Sequence[JudgeItem]) -> list[list[int]]:
    """Batches in order of ``items``, for judges whose work does not depend on length."""
    return [list(range(start, min(start + BATCH, len(items)))) for start in range(0, len(items), BATCH)]


def in_full(
    items: Sequence[JudgeItem],
    applies: Callable[[JudgeItem], bool],
    plan: Callable[[Sequence[JudgeItem]], list[list[int]]],
) -> list[list[int]]:
    """A plan of all ``items`` from the ``plan`` of those that a judge applies to; the others join its first batch."""
    own = [index for index, item in enumerate(items) if applies(item)]
    others = [index for index, item in enumerate(items) if not applies(item)]
    batches = [[own[at] for at in batch] for batch in plan([items[index] for index in own])] if own else []
    if not others:
        return batches
    first, *rest = batches or [[]]
    return [first + others, *rest]
