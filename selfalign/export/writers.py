"""Batches of one split into files: Parquet or JSON lines in shards, or an Arrow stream that ``datasets`` opens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from selfalign.visible import json_safe

#: Bytes of Arrow a shard: what the Hub's own tools make of a large data set.
SHARD_BYTES = 500_000_000


class Part(Protocol):
    """One file being written."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class Shards:
    """``<split>-00000-of-00002.<suffix>`` in ``folder``; they have their names once :meth:`close` knows how many there are."""

    def __init__(self, folder: Path, split: str, suffix: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._split, self._suffix, self._limit = folder, split, suffix, shard_bytes
        self._written: list[Path] = []
        self._part: Part | None = None
        self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._part is None:
            path = self._folder / f".{self._split}-{len(self._written)}"
            self._part, self._bytes = PARTS[self._suffix](path, batch.schema), 0
            self._written.append(path)
        self._part.write(batch)
        self._bytes += batch.nbytes
        if self._bytes >= self._limit:
            self._end()

    def close(self) -> None:
        self._end()
        for number, path in enumerate(self._written):
            path.rename(self._folder / f"{self._split}-{number:05}-of-{len(self._written):05}.{self._suffix}")

    def _end(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None


class ArrowStream:
    """What ``datasets.Dataset.from_file`` maps into memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
        self._sink.close()


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(str(path), schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._stream = path.open("wb")

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write("".join(f"{json_line(row)}\n" for row in batch.to_pylist()).encode("utf-8"))

    def close(self) -> None:
        self._stream.close()


PARTS: Mapping[str, Callable[[Path, pa.Schema], Part]] = {"parquet": _Parquet, "jsonl": _JsonLines, "hf": ArrowStream}


def json_line(row: Mapping[str, Any]) -> str:
    """A row as JSON; what is not finite is null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json_safe(json.dumps(finite, ensure_ascii=False, allow_nan=False))
