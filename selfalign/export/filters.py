"""Which rows are left out of an export, and why: each reason is counted, none is silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from selfalign.decontamination.find import Finder, Hit
from selfalign.errors import StoreError
from selfalign.export.columns import TEXTS, Kind

#: Reason -> what it means, for people.
REASONS = {
    "held_out": "its prompt is held out: it measures the run and trains nothing",
    "truncated": "an answer of it was cut at max_tokens (--only-complete)",
    "contaminated": "repeats an item of a benchmark (--decontaminate)",
}


class Filter:
    """Decides row by row; ``left_out`` counts by reason, ``hits`` are the rows that repeat a benchmark.

    ``keep_hits``: such rows are only reported.
    """

    def __init__(self, kind: Kind, *, only_complete: bool, finder: Finder | None, keep_hits: bool) -> None:
        self._kind = kind
        self._only_complete = only_complete
        self._finder = finder
        self._keep_hits = keep_hits
        self._seen = 0
        self.left_out: Counter[str] = Counter()
        self.hits: list[tuple[int, str, Hit]] = []

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of ``batch`` (of the query) that stay.

        Raises:
            StoreError: a row names a prompt or a text that is not there.
        """
        _refuse_gaps(batch, self._kind)
        kept = np.ones(batch.num_rows, dtype=bool)
        self._drop(kept, _true(batch["is_held_out"]), "held_out")
        if self._only_complete:
            for name in batch.schema.names:
                if name.endswith("truncated"):
                    self._drop(kept, _true(batch[name]), "truncated")
        if self._finder is not None:
            self._look(batch, kept)
        self._seen += batch.num_rows
        return batch.filter(pa.array(kept))

    def _look(self, batch: pa.RecordBatch, kept: np.ndarray) -> None:
        assert self._finder is not None
        found = np.zeros(batch.num_rows, dtype=bool)
        for name in TEXTS[self._kind]:
            texts = _texts(batch, name)
            for index, hit in self._finder.find(texts):
                if kept[index]:
                    found[index] = True
                    self.hits.append((self._seen + index, name, hit))
        if not self._keep_hits:
            self._drop(kept, found, "contaminated")

    def _drop(self, kept: np.ndarray, where: np.ndarray, reason: str) -> None:
        count = int((kept & where).sum())
        if count:
            self.left_out[reason] += count
            kept &= ~where


def _texts(batch: pa.RecordBatch, name: str) -> Sequence[str]:
    texts: list[str | None] = batch[name].to_pylist()
    if name == "prompt":  # a lesson's is its whole conversation
        return [own or whole or "" for own, whole in zip(texts, batch["conversation"].to_pylist(), strict=True)]
    return [text or "" for text in texts]


def _true(column: pa.Array) -> np.ndarray:
    found: np.ndarray = column.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return found


def _refuse_gaps(batch: pa.RecordBatch, kind: Kind) -> None:
    for name in TEXTS[kind]:
        missing = batch[name].is_null().to_numpy(zero_copy_only=False)
        if name == "prompt":
            missing = missing & batch["conversation"].is_null().to_numpy(zero_copy_only=False)
        if missing.any():
            raise StoreError(
                f"{int(missing.sum())} rows name a {name} that the store does not have; 'selfalign verify RUN' says which"
            )
