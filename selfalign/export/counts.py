"""What went into an export, counted batch by batch, for its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

#: Column of the query -> the count that it goes into.
_COUNTED = {
    "round": "rounds", "source": "sources", "judge": "judges", "builder": "builders", "language": "languages",
    "weights_hash": "writers", "chosen_weights_hash": "writers", "rejected_weights_hash": "writers",
    "review": "reviews",
}  # fmt: skip


@dataclass
class Counts:
    """Rows by split, round, source and so on; ``writers`` counts answers by the weights that wrote them, ``reviews`` rows by
    the review that stands behind them."""

    splits: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    builders: Counter[str] = field(default_factory=Counter)
    writers: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    reviews: Counter[str] = field(default_factory=Counter)
    left_out: Mapping[str, int] = field(default_factory=dict)
    truncated: int = 0
    _prompts: set[bytes] = field(default_factory=set)

    @property
    def rows(self) -> int:
        return self.splits.total()

    @property
    def prompts(self) -> int:
        return len(self._prompts)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch of the query."""
        for column, name in _COUNTED.items():
            if column in batch.schema.names:
                for entry in batch[column].value_counts().to_pylist():
                    if entry["values"] is not None:
                        getattr(self, name)[entry["values"]] += entry["counts"]
        cut = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.schema.names:
            if column.endswith("truncated"):
                cut |= batch[column].fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
        self.truncated += int(cut.sum())
        # Of a hex id its bytes: a million prompts are then some tens of megabytes.
        self._prompts.update(one.encode()[:32] for one in batch["prompt_id"].unique().to_pylist() if one is not None)
