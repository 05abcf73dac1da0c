"""Rows of what a resampler decided, and the candidates that they leave to a pair builder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfalign.config import Settings
from selfalign.identity import canonical, content_id
from selfalign.resampling.pools import Pool
from selfalign.types import ScoredGroup, Selection


def selections(
    pool: Pool, accepted: Sequence[int], probabilities: NDArray[np.float64], round: int, resampler: str,
    settings: Settings, details: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[Selection]:  # fmt: skip
    """A row for every candidate of ``pool``, in its order; ``accepted`` are positions in it, in order of acceptance.

    ``detail`` has ``judge_score`` and ``probability`` (of acceptance, as the resampler defines it), and what
    ``details`` has for the position.
    """
    order = {position: place for place, position in enumerate(accepted)}
    made_by = content_id("resampler", resampler, settings.model_dump(mode="json"))
    return [
        Selection(
            selection_id=content_id("selection", round, made_by, candidate.candidate_id),
            round=round,
            prompt_id=pool.prompt_id,
            candidate_id=candidate.candidate_id,
            resampler=resampler,
            accepted=position in order,
            accept_order=order.get(position),
            score=float(pool.rewards[position]),
            detail=canonical(
                {
                    "judge_score": float(pool.scores[position]),
                    "probability": float(probabilities[position]),
                    **(details or {}).get(position, {}),
                }
            ),
        )
        for position, candidate in enumerate(pool.candidates)
    ]


def only_accepted(groups: Sequence[ScoredGroup], rows: Sequence[Selection]) -> list[ScoredGroup]:
    """Every group with nothing but its accepted candidates, in order of acceptance; some may be left with none."""
    order = {row.candidate_id: row.accept_order for row in rows if row.accept_order is not None}
    return [
        replace(
            group,
            candidates=tuple(
                sorted(
                    (c for c in group.candidates if c.candidate.candidate_id in order),
                    key=lambda c: order[c.candidate.candidate_id],
                )
            ),
        )
        for group in groups
    ]


def by_prompt(rows: Sequence[Selection]) -> dict[str, list[Selection]]:
    """Rows of each prompt, in the order given."""
    found: dict[str, list[Selection]] = defaultdict(list)
    for row in rows:
        found[row.prompt_id].append(row)
    return found
