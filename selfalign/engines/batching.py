"""Which prompts are decoded together: pure arithmetic on lengths, the same on every machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def plan_batches(
    lengths: Sequence[int], *, samples: int, max_tokens: int, max_rows: int, token_budget: int
) -> list[list[int]]:
    """Batches of indices into ``lengths``, longest prompts first.

    A batch holds at most ``max_rows`` rows (prompts x ``samples``) and ``token_budget`` tokens, counted as
    rows x (its longest prompt + ``max_tokens``). An item that alone exceeds either is a batch of its own.
    The longest come first, so that a lack of memory shows at once and the time left is not underestimated.
    Indices of a batch ascend by (length, index).
    """
    descending = sorted(range(len(lengths)), key=lambda index: (lengths[index], index), reverse=True)
    batches: list[list[int]] = []
    width = 0
    for index in descending:
        rows = (len(batches[-1]) + 1) * samples if batches else 0
        if batches and rows <= max_rows and rows * width <= token_budget:
            batches[-1].append(index)
        else:
            width = lengths[index] + max_tokens
            batches.append([index])
    return [batch[::-1] for batch in batches]


def split_rows(lengths: Sequence[int], *, max_tokens: int, max_rows: int, token_budget: int) -> list[range]:
    """Rows (by their prompt's length) in consecutive pieces within ``max_rows`` and ``token_budget``; at least one each.

    For what :func:`plan_batches` cannot divide, the many samples of one prompt. The pieces are of equal size, or one
    row apart: a last piece of a few rows would cost nearly as long as a full one.
    """
    if not lengths:
        return []
    most = max(1, min(max_rows, token_budget // (max(lengths) + max_tokens)))
    pieces = -(-len(lengths) // most)
    bounds = [len(lengths) * piece // pieces for piece in range(pieces + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]
