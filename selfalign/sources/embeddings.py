"""Prompts that mean nearly the same, by the vectors that a sentence encoder gives them (Reimers & Gurevych 2019). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from selfalign.sources import in_order


def repeats(vectors: np.ndarray, similarity: float) -> dict[int, int]:
    """:func:`in_order.repeats` of unit ``vectors``, float32 [n, d]: alike is a cosine of at least ``similarity``."""

    def alike(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int]]:
        for row, column in np.argwhere(vectors[list(left)] @ vectors[list(right)].T >= similarity):
            yield left[row], right[column]

    return in_order.repeats(len(vectors), alike)
