"""Which texts hold n-grams of a benchmark's items, exactly and fast: words as numbers, grams as 64-bit sums.

A word that no item has ends every window over it, so that of ordinary text little is left to be hashed. A match of hashes
is held against the words themselves, so that chance cannot make one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from selfalign.decontamination.benchmarks import Item
from selfalign.decontamination.settings import Settings
from selfalign.sources.rouge import words

#: Places of the bitmap a gram: of windows that are no gram, one in so many is searched for.
_BITS_A_GRAM = 32


@dataclass(frozen=True)
class Hit:
    """The item that a text repeats most; ``share`` of its grams are in the text, ``gram`` is the first of them there.

    ``n_items``: how many items the text is contaminated by.
    """

    item: Item
    gram: str
    share: float
    n_items: int


class Finder:
    """The grams of ``items``, looked up in any number of texts. ``too_short``: items that have too few words for one."""

    def __init__(self, items: Sequence[Item], settings: Settings) -> None:
        self._items, self._settings = items, settings
        self._vocabulary: dict[str, int] = {}
        ids: list[int] = []
        starts: dict[int, list[int]] = {}
        owners: dict[int, list[int]] = {}
        self._grams = np.zeros(len(items), dtype=np.int64)
        for index, item in enumerate(items):
            own = [self._vocabulary.setdefault(word, len(self._vocabulary) + 1) for word in words(item.text)]
            width = min(len(own), settings.ngram)
            if width >= min(settings.shortest, settings.ngram):
                self._grams[index] = len(own) - width + 1
                starts.setdefault(width, []).extend(range(len(ids), len(ids) + len(own) - width + 1))
                owners.setdefault(width, []).extend([index] * (len(own) - width + 1))
                ids += own
        self.too_short = int((self._grams == 0).sum())
        table = np.array(ids, dtype=np.uint64)
        self._widths = {
            width: _Grams(table, width, np.array(at), np.array(owners[width])) for width, at in starts.items()
        }

    def find(self, texts: Sequence[str]) -> list[tuple[int, Hit]]:
        """(index of the text, what it repeats) of every contaminated text, in order."""
        spelled = [words(text) for text in texts]
        known = self._vocabulary.get
        # A zero between two texts, and for every word that no item has.
        numbers = [0]
        begins = np.empty(len(texts), dtype=np.int64)
        for index, own in enumerate(spelled):
            begins[index] = len(numbers)
            numbers.extend(map(known, own, repeat(0)))
            numbers.append(0)
        ids = np.array(numbers, dtype=np.uint64)
        unknown = np.concatenate([[0], np.cumsum(ids == 0)])
        found: dict[int, list[tuple[int, np.ndarray, int]]] = {}
        for width, grams in self._widths.items():
            for position, owners in grams.matches(ids, unknown):
                index = int(np.searchsorted(begins, position, side="right")) - 1
                found.setdefault(index, []).append((position - int(begins[index]), owners, width))
        hits = ((index, self._hit(spelled[index], found[index])) for index in sorted(found))
        return [(index, hit) for index, hit in hits if hit is not None]

    def _hit(self, text: Sequence[str], matches: Sequence[tuple[int, np.ndarray, int]]) -> Hit | None:
        """Judge a text by its matches: (position of the gram in it, items that have it once for each place, width)."""
        # A gram that the text has twice counts once.
        distinct = {tuple(text[position : position + width]): owners for position, owners, width in matches}
        items, counts = np.unique(np.concatenate(list(distinct.values())), return_counts=True)
        shares = counts / self._grams[items]
        contaminated = shares >= self._settings.share
        if not contaminated.any():
            return None
        best = int(np.argmax(shares))
        item = int(items[best])
        position, _, width = min((m for m in matches if item in m[1]), key=lambda match: match[0])
        gram = " ".join(text[position : position + width])
        return Hit(self._items[item], gram, float(shares[best]), int(contaminated.sum()))


class _Grams:
    """Grams of one width, by hash: ``starts`` are their places in ``table``, ``owners`` their items."""

    def __init__(self, table: np.ndarray, width: int, starts: np.ndarray, owners: np.ndarray) -> None:
        self._table, self._width = table, width
        for attempt in range(16):
            self._factors = _odd(width, attempt)
            hashes = self._hash(table, starts)
            order = np.argsort(hashes, kind="stable")
            self._owners, self._sorted_starts = owners[order], starts[order]
            self._hashes, self._first, self._count = np.unique(hashes[order], return_index=True, return_counts=True)
            # Equal hashes must be equal grams; else other factors are drawn.
            leaders = np.repeat(self._sorted_starts[self._first], self._count)
            if self._same(table, self._sorted_starts, leaders).all():
                break
        else:
            raise AssertionError("sixteen hash functions in a row collide")
        # Most windows are no gram: one look at a bit of their hash says so, where a search among all takes twenty.
        bits = max(10, int(self._hashes.size * _BITS_A_GRAM).bit_length())
        self._shift = np.uint64(64 - bits)
        self._maybe = np.zeros(1 << bits, dtype=bool)
        self._maybe[self._hashes >> self._shift] = True

    def matches(self, ids: np.ndarray, unknown: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(position, owners) of every window of ``ids`` that is one of the grams; ``unknown`` counts zeros before."""
        n_windows = len(ids) - self._width + 1
        if n_windows <= 0:
            return []
        hashes = self._hash_all(ids, n_windows)
        maybe = self._maybe[hashes >> self._shift]
        maybe &= unknown[self._width : self._width + n_windows] == unknown[:n_windows]
        places = np.flatnonzero(maybe)
        hashes = hashes[places]
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        equal = self._hashes[at] == hashes
        places, at = places[equal], at[equal]
        same = self._same(ids, places, self._sorted_starts[self._first[at]])
        return [
            (int(place), self._owners[self._first[gram] : self._first[gram] + self._count[gram]])
            for place, gram in zip(places[same], at[same], strict=True)
        ]

    def _hash(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        total = np.zeros(len(places), dtype=np.uint64)
        for offset, factor in enumerate(self._factors):
            total += ids[places + offset] * factor
        return total

    def _hash_all(self, ids: np.ndarray, n_windows: int) -> np.ndarray:
        """As :meth:`_hash`, of every window in order."""
        total = np.zeros(n_windows, dtype=np.uint64)
        for offset, factor in enumerate(self._factors):
            total += ids[offset : offset + n_windows] * factor
        return total

    def _same(self, ids: np.ndarray, places: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether the windows of ``ids`` at ``places`` are the grams that begin at ``starts``."""
        equal = np.ones(len(places), dtype=bool)
        for offset in range(self._width):
            equal &= ids[places + offset] == self._table[starts + offset]
        return equal


def _odd(n: int, seed: int) -> np.ndarray:
    drawn: np.ndarray = np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64) | np.uint64(1)
    return drawn
