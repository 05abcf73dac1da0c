"""Which rows are left out of an export, and why: each reason is counted, none is silent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign.decontamination.find import Finder
from selfalign.errors import StoreError
from selfalign.export.columns import KEYS, TEXTS
from selfalign.export.request import Request

#: Reason -> what it means, for people.
REASONS = {
    "repeated": "the same answer to the same prompt is there already",
    "held_out": "the prompt is held out: it measures the run and trains nothing",
    "rejected": "a person rejected the pair (--reviews ignore keeps it)",
    "truncated": "an answer was cut at max_tokens (--only-complete)",
    "contaminated": "repeats an item of a benchmark (--decontaminate)",
}


class Filter:
    """Decides row by row; ``left_out`` counts by reason, ``hits`` are the places where rows repeat a benchmark."""

    def __init__(self, request: Request, finder: Finder | None) -> None:
        self._request = request
        self._finder = finder
        self._answered: set[bytes] = set()
        self.left_out: Counter[str] = Counter()
        self.hits: list[Mapping[str, Any]] = []

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of ``batch`` (of the query) that stay.

        Raises:
            StoreError: a row names a prompt or a text that is not there.
        """
        self._refuse_gaps(batch)
        kept = np.ones(batch.num_rows, dtype=bool)
        self._drop(kept, _true(batch["is_held_out"]), "held_out")
        if "review" in batch.schema.names:
            self._drop(kept, _true(pc.equal(batch["review"], "reject")), "rejected")
        if self._request.only_complete:
            for name in batch.schema.names:
                if name.endswith("truncated"):
                    self._drop(kept, _true(batch[name]), "truncated")
        if self._request.kind == "sft":
            self._drop(kept, self._repeated(batch), "repeated")
        if self._finder is not None:
            contaminated = self._look(self._finder, batch, kept)
            if not self._request.decontamination.report_only:
                self._drop(kept, contaminated, "contaminated")
        return batch.filter(pa.array(kept))

    def _repeated(self, batch: pa.RecordBatch) -> np.ndarray:
        """Of a chosen demonstration, say, the first row counts: that of the pair, which has a score."""
        found = np.zeros(batch.num_rows, dtype=bool)
        for index, text in enumerate(zip(_texts(batch, "prompt"), _texts(batch, "completion"), strict=True)):
            key = hashlib.blake2b("\0".join(text).encode(), digest_size=16).digest()
            found[index] = key in self._answered
            self._answered.add(key)
        return found

    def _look(self, finder: Finder, batch: pa.RecordBatch, kept: np.ndarray) -> np.ndarray:
        found = np.zeros(batch.num_rows, dtype=bool)
        keys = batch[KEYS[self._request.kind]]
        for name in TEXTS[self._request.kind]:
            for index, hit in finder.find(_texts(batch, name)):
                if kept[index]:
                    found[index] = True
                    self.hits.append({
                        "row": keys[index].as_py(), "column": name, "benchmark": hit.item.file, "item": hit.item.place,
                        "ngram": hit.gram, "share": round(hit.share, 4), "items": hit.n_items,
                    })  # fmt: skip
        return found

    def _drop(self, kept: np.ndarray, where: np.ndarray, reason: str) -> None:
        count = int((kept & where).sum())
        if count:
            self.left_out[reason] += count
            kept &= ~where

    def _refuse_gaps(self, batch: pa.RecordBatch) -> None:
        for name in TEXTS[self._request.kind]:
            missing = batch[name].is_null().to_numpy(zero_copy_only=False)
            if name == "prompt":
                missing = missing & batch["conversation"].is_null().to_numpy(zero_copy_only=False)
            if missing.any():
                raise StoreError(
                    f"{int(missing.sum())} rows name a {name} that the store does not have; 'selfalign verify RUN' says which"
                )


def _texts(batch: pa.RecordBatch, name: str) -> Sequence[str]:
    texts: list[str | None] = batch[name].to_pylist()
    if name == "prompt":  # of a lesson its whole conversation
        return [whole or own or "" for own, whole in zip(texts, batch["conversation"].to_pylist(), strict=True)]
    return [text or "" for text in texts]


def _true(column: pa.Array) -> np.ndarray:
    found: np.ndarray = column.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return found
