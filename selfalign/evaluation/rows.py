"""What all evaluators share: how a figure becomes a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from selfalign.evaluation.statistics import Interval
from selfalign.identity import canonical
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation


def row(
    data: EvaluationInput,
    metric: str,
    figure: Interval,
    detail: Mapping[str, Any] | None = None,
    split: str = "held_out",
) -> Evaluation:
    """``figure`` of M_t as a row; what is not a finite number is None, as SQL aggregates would carry NaN on."""
    return Evaluation(
        run=data.run,
        round=data.round,
        metric=metric,
        split=split,
        value=_finite(figure.value),
        low=_finite(figure.low),
        high=_finite(figure.high),
        n=figure.n,
        detail=canonical(dict(detail or {})),
    )


def point(value: float | None, n: int) -> Interval:
    """A figure without an interval."""
    return Interval(value, None, None, n)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
