"""What sequences of tokens have in common at their beginning."""

from __future__ import annotations

from collections.abc import Sequence


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all ``sequences`` share."""
    # Only the smallest and the largest can differ first: everything else sorts between them.
    low, high = min(sequences, key=tuple), max(sequences, key=tuple)
    for position, (left, right) in enumerate(zip(low, high, strict=False)):
        if left != right:
            return position
    return min(len(low), len(high))
