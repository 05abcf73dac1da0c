"""Does a round write what earlier rounds wrote? Near duplicates by MinHash (Broder 1997), checked exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from selfalign.config import Settings
from selfalign.evaluation.rows import row
from selfalign.evaluation.statistics import ratio_interval
from selfalign.evaluation.text import words
from selfalign.protocols import EvaluationInput
from selfalign.types import Candidate, Evaluation

_WORDS = 5
#: 16 bands of 4 find a pair of Jaccard similarity 0.8 with probability 0.9998, and one of 0.3 with 0.12.
_BANDS, _ROWS = 16, 4
#: Distinct texts looked at in one band's bucket; only boilerplate fills one further.
_BUCKET = 64


class NearDuplicates:
    """Shares of training candidates and chosen answers of this round with a near duplicate among all training
    candidates of earlier rounds: Jaccard similarity of their word 5-grams at least ``similarity``.

    Chinese and the like count by character; of a text shorter than five words the whole is one gram. Texts
    without words do not count. The interval is clustered by prompt.
    """

    name = "near_duplicates"
    needs = ("training_candidates", "pairs")

    class Config(Settings):
        id: Literal["near_duplicates"] = "near_duplicates"
        similarity: float = Field(
            0.8, ge=0.5, le=1, description="Jaccard similarity from which texts count as the same"
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. Without earlier rounds there is nothing to repeat, and no row."""
        now = list(data.training_candidates.get(data.round, ()))
        before = [c for t in sorted(data.training_candidates) if t < data.round for c in data.training_candidates[t]]
        if not now or not before:
            return []
        grams = Grams()
        known = Index(self.config.similarity)
        for candidate in sorted(before, key=lambda c: c.candidate_id):
            known.add(grams.of(candidate.text))
        repeated = {
            c.candidate_id: known.holds(own) for c in now if len(own := grams.of(c.text))
        }  # fmt: skip
        chosen = {pair.chosen_id for pair in data.pairs.get(data.round, ())}
        detail = {"earlier": len(before), "similarity": self.config.similarity}
        rows = []
        for metric, members in (
            ("near_duplicate_candidates", now),
            ("near_duplicate_chosen", [c for c in now if c.candidate_id in chosen]),
        ):
            counts = _by_prompt(members, repeated)
            if counts:
                rows.append(row(data, metric, ratio_interval(counts), detail, split="train"))
        return rows


def _by_prompt(members: Iterable[Candidate], repeated: dict[str, bool]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for candidate in members:
        if candidate.candidate_id in repeated:
            hits, n = counts.get(candidate.prompt_id, (0, 0))
            counts[candidate.prompt_id] = hits + repeated[candidate.candidate_id], n + 1
    return counts


class Grams:
    """Texts as sets of word n-grams: sorted arrays of 64-bit hashes that depend on the words alone."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._weights = _odd(_WORDS, "gram")

    def of(self, text: str) -> np.ndarray:
        """uint64, sorted, without repeats; empty for a text without words."""
        found = words(text)
        if not found:
            return np.empty(0, dtype=np.uint64)
        hashes = np.array([self._hash(word) for word in found], dtype=np.uint64)
        width = min(_WORDS, len(hashes))
        windows = np.lib.stride_tricks.sliding_window_view(hashes, width)
        # A text shorter than a gram must not equal the start of a longer one.
        return np.unique(_mix((windows * self._weights[:width]).sum(axis=1, dtype=np.uint64) + np.uint64(width)))

    def _hash(self, word: str) -> int:
        if word not in self._words:
            self._words[word] = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")  # fmt: skip
        return self._words[word]


class Index:
    """Sets of grams, found again by what is nearly the same set."""

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._factors, self._offsets = _odd(_BANDS * _ROWS, "factor"), _odd(_BANDS * _ROWS, "offset")
        self._sets: list[np.ndarray] = []
        self._seen: set[bytes] = set()
        self._buckets: list[dict[bytes, list[int]]] = [{} for _ in range(_BANDS)]

    def add(self, grams: np.ndarray) -> None:
        """Equal sets are kept once, the empty one not at all."""
        whole = grams.tobytes()
        if not len(grams) or whole in self._seen:
            return
        self._seen.add(whole)
        self._sets.append(grams)
        for buckets, key in zip(self._buckets, self._keys(grams), strict=True):
            members = buckets.setdefault(key, [])
            if len(members) < _BUCKET:
                members.append(len(self._sets) - 1)

    def holds(self, grams: np.ndarray) -> bool:
        """Whether a set with at least the similarity was added."""
        if grams.tobytes() in self._seen:
            return True
        looked_at: set[int] = set()
        for buckets, key in zip(self._buckets, self._keys(grams), strict=True):
            for member in buckets.get(key, ()):
                if member not in looked_at:
                    looked_at.add(member)
                    if jaccard(grams, self._sets[member]) >= self._similarity:
                        return True
        return False

    def _keys(self, grams: np.ndarray) -> Iterator[bytes]:
        least = (grams[None, :] * self._factors[:, None] + self._offsets[:, None]).min(axis=1)
        return (least[at : at + _ROWS].tobytes() for at in range(0, _BANDS * _ROWS, _ROWS))


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Size of the intersection over that of the union, of sorted arrays without repeats."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _odd(n: int, purpose: str) -> np.ndarray:
    values: Sequence[int] = [
        int.from_bytes(hashlib.blake2b(f"{purpose} {i}".encode(), digest_size=8).digest(), "big") | 1 for i in range(n)
    ]
    return np.array(values, dtype=np.uint64)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: spreads every bit over all others."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = values ^ (values >> np.uint64(31))
    return result
