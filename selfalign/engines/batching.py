"""Which prompts are decoded together: pure arithmetic on lengths, the same on every machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

#: New tokens up to which rows are taken for choices that are scored, and not for samples.
_ONLY_READ = 8


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


def refilled_batches(
    lengths: Sequence[int], *, samples: int, max_tokens: int, max_rows: int, together: int, token_budget: int
) -> list[list[int]]:
    """:func:`plan_batches` for an engine that decodes ``together`` rows within ``token_budget`` and refills their places.

    Samples have as many waiting rows beside them as ``max_rows`` allows. What is only read gains nothing from waiting
    rows: its batches are no larger than what is in memory at once, so that a kill costs little.
    """
    together = min(together, max_rows)
    rows = max_rows if max_tokens > _ONLY_READ else together
    return plan_batches(
        lengths, samples=samples, max_tokens=max_tokens, max_rows=rows, token_budget=token_budget * rows // together
    )


def even_pieces(count: int, most: int) -> list[range]:
    """``count`` rows in as few consecutive pieces of at most ``most`` as there can be.

    They are of equal size, or one row apart: a last piece of a few rows would cost nearly as long as a full one.
    """
    pieces = -(-count // most)
    bounds = [count * piece // pieces for piece in range(pieces + 1)] if pieces else [0]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]
