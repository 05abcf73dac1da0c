"""What a query gives, set aside in a file at once: a run that is writing waits only for that, not for the export."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.export.queries import Query
from selfalign.store.store import Store

#: Rows a batch: some megabytes of text.
BATCH = 4096
#: Rows that one SELECT gives. Joined with their texts and sorted all at once, a million rows took 3.6 GB.
_PART = 50_000


def spool(store: Store, queries: Sequence[Query], path: Path) -> int:
    """Write the rows of ``queries`` to ``path`` as an Arrow stream, batch by batch; returns how many there are."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(store.read())
        sink = stack.enter_context(pa.OSFile(str(path), "wb"))
        writer: Any = None
        n_rows = 0
        for query in queries:
            for batch in _rows(connection, query):
                if writer is None:
                    schema = batch.schema
                    writer = stack.enter_context(pa.ipc.new_stream(sink, schema))
                # A column that one source leaves empty may have come with another number type.
                writer.write_batch(batch.cast(schema))
                n_rows += batch.num_rows
    return n_rows


def _rows(connection: Any, query: Query) -> Iterator[pa.RecordBatch]:
    sql, params = query.starts(_PART)
    starts = [tuple(row) for row in _relation(connection, sql, params).fetchall()]
    for first, stop in itertools.zip_longest(starts, starts[1:]):
        yield from _relation(connection, *query.part(first, stop)).to_arrow_reader(BATCH)


def _relation(connection: Any, sql: str, params: Mapping[str, Any]) -> Any:
    return connection.sql(sql, params=dict(params)) if params else connection.sql(sql)


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows again, in batches of at most BATCH; call it only where there are any."""
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            for first in range(0, batch.num_rows, BATCH):
                yield batch.slice(first, BATCH)
