"""Which of many things repeat an earlier one that stays, whatever "alike" means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

#: Compared with one another at once: a matrix of 512 x 8192 float32 is 16 MB.
ROWS, COLUMNS = 512, 8192
#: Given two lists of indices, the pairs of these that are alike, by the first and then by the second.
Alike = Callable[[Sequence[int], Sequence[int]], Iterable[tuple[int, int]]]


def repeats(n: int, alike: Alike, rows: int = ROWS, columns: int = COLUMNS) -> dict[int, int]:
    """Of each of 0..n-1 that is like an earlier one that stays: its index, and that of the first such.

    As Self-Instruct (Wang et al. 2023, section 2.2) keeps a new instruction: compared with what was kept before.
    """
    kept: list[int] = []
    found: dict[int, int] = {}
    for at in range(0, n, rows):
        block = list(range(at, min(at + rows, n)))
        for start in range(0, len(kept), columns):
            for index, earlier in alike(block, kept[start : start + columns]):
                found.setdefault(index, earlier)
            block = [index for index in block if index not in found]
        for index, earlier in alike(block, block):
            if earlier < index and not {index, earlier} & found.keys():
                found[index] = earlier
        kept += [index for index in block if index not in found]
    return found
