"""What a round's resampling is worth: figures of the rows that any resampler wrote. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfalign.resampling.rejection import effective_size
from selfalign.types import Selection


@dataclass(frozen=True)
class PromptFigures:
    """Of one prompt's scored candidates.

    ``acceptance_rate``: mean probability of acceptance, so the share of proposals that would be accepted.
    ``effective_size``: of the same probabilities (rejection.effective_size), in candidates.
    ``score_gain``: mean judge's score of the accepted minus that of all; None where none was accepted.
    """

    acceptance_rate: float
    effective_size: float
    score_gain: float | None


def figures(rows: Mapping[str, Sequence[Selection]]) -> dict[str, PromptFigures]:
    """By prompt, as ``rows``. A row without a ``probability`` in its detail counts as 1 or 0, as it was decided."""
    return {prompt_id: _figures(own) for prompt_id, own in rows.items()}


def _figures(rows: Sequence[Selection]) -> PromptFigures:
    details = [json.loads(row.detail) for row in rows]
    weights = np.array([d.get("probability", float(row.accepted)) for row, d in zip(rows, details, strict=True)])
    scores = np.array([d.get("judge_score", row.score) for row, d in zip(rows, details, strict=True)], dtype=np.float64)
    accepted = np.array([row.accepted for row in rows])
    gain = float(scores[accepted].mean() - scores.mean()) if accepted.any() else None
    return PromptFigures(float(weights.mean()), effective_size(weights), gain)
