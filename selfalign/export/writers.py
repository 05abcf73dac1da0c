"""Batches into files: Parquet and JSON lines in shards as the Hub names them, or a folder of ``save_to_disk``."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from selfalign.durable import sync
from selfalign.visible import json_safe

#: Bytes of Arrow a shard: what the Hub's own tools make of a large data set.
SHARD_BYTES = 500_000_000


class Writer(Protocol):
    """Takes the batches of one split."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class Shards:
    """``<split>-00000-of-00002.<suffix>`` in ``folder``, named once all are written.

    ``start`` opens a shard's file and returns how batches are put there and how it ends.
    """

    def __init__(self, folder: Path, split: str, suffix: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._split, self._suffix, self._limit = folder, split, suffix, shard_bytes
        self._written: list[Path] = []
        self._open: _Part | None = None
        self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._open is None:
            path = self._folder / f".{self._split}-{len(self._written)}"
            self._open, self._bytes = _PARTS[self._suffix](path, batch.schema), 0
            self._written.append(path)
        self._open.write(batch)
        self._bytes += batch.nbytes
        if self._bytes >= self._limit:
            self._end()

    def close(self) -> None:
        self._end()
        for number, path in enumerate(self._written):
            path.rename(self._folder / f"{self._split}-{number:05}-of-{len(self._written):05}.{self._suffix}")

    def _end(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class SavedToDisk:
    """A folder as ``datasets.Dataset.save_to_disk`` writes it; rows wait in ``aside``, and are never all in memory."""

    def __init__(self, folder: Path, aside: Path) -> None:
        self._folder, self._aside = folder, aside
        self._stack = contextlib.ExitStack()
        self._stream: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._stream is None:
            sink = self._stack.enter_context(pa.OSFile(str(self._aside), "wb"))
            self._stream = self._stack.enter_context(pa.ipc.new_stream(sink, batch.schema))
        self._stream.write_batch(batch)

    def close(self) -> None:
        import datasets

        self._stack.close()
        if self._stream is not None:
            with _no_progress_bars():
                datasets.Dataset.from_file(str(self._aside)).save_to_disk(str(self._folder))
            self._aside.unlink()


class OneFile:
    """A single file of rows, for a stream that the caller opened and closes."""

    def __init__(self, stream: BinaryIO, suffix: str) -> None:
        self._stream, self._suffix = stream, suffix
        self._part: _Part | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._part is None:
            self._part = _PARTS[self._suffix](self._stream, batch.schema)
        self._part.write(batch)

    def close(self) -> None:
        if self._part is not None:
            self._part.close()


class _Part(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class _ParquetPart:
    def __init__(self, target: Path | BinaryIO, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(str(target) if isinstance(target, Path) else target, schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, target: Path | BinaryIO, schema: pa.Schema) -> None:
        self._owned = target.open("wb") if isinstance(target, Path) else None
        self._stream: BinaryIO = self._owned if self._owned is not None else target  # type: ignore[assignment]

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write("".join(f"{_json(row)}\n" for row in batch.to_pylist()).encode("utf-8"))

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()


_PARTS: dict[str, Callable[[Any, pa.Schema], _Part]] = {"parquet": _ParquetPart, "jsonl": _JsonLines}


def _json(row: dict[str, Any]) -> str:
    finite = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
    return json_safe(json.dumps(finite, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def _no_progress_bars() -> Any:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def flush(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)
