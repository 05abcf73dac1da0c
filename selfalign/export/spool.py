"""What a query gives, set aside in a file at once: a run that is writing waits only for that, not for the export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.store.store import Store

#: Rows a batch: some megabytes of text.
BATCH = 4096


def spool(store: Store, sql: str, params: Mapping[str, Any], path: Path) -> int:
    """Write the rows of one SELECT to ``path`` as an Arrow stream, batch by batch; returns how many there are."""
    n_rows = 0
    with store.read() as connection:
        relation = connection.sql(sql, params=dict(params)) if params else connection.sql(sql)
        reader = relation.to_arrow_reader(BATCH)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                n_rows += batch.num_rows
    return n_rows


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows again, in batches of at most BATCH."""
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            for first in range(0, batch.num_rows, BATCH):
                yield batch.slice(first, BATCH)
