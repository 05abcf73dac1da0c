"""Figures by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from selfalign.protocols import GateInput
from selfalign.types import Evaluation


def figure(
    metric: str, value: float | None, low: float | None = None, high: float | None = None, *, round: int = 1,
    split: str = "held_out", n: int = 100, **detail: Any,
) -> Evaluation:  # fmt: skip
    return Evaluation("r", round, metric, split, value, low, high, n, json.dumps(detail))


def measured(*figures: Evaluation, round: int = 1, yields: Mapping[int, tuple[int, int]] | None = None) -> GateInput:
    return GateInput(round, figures, yields or {})
