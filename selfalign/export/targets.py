"""Where an export goes: a folder, or one file. Both are written aside, flushed, and then take their place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from selfalign.durable import sync, write_atomic
from selfalign.errors import BadInput
from selfalign.export.request import Request
from selfalign.export.writers import PARTS, Part, Shards, json_line

#: In an exported folder: what it is. A folder without it is never replaced.
MANIFEST = "selfalign_export.json"
#: Rows that repeat benchmarks. It quotes the benchmarks, so that it is never pushed to a hub.
HITS = "contamination.jsonl"
CARD = "README.md"
SPLITS = ("train", "test")


class Target(Protocol):
    """Takes rows by split; :meth:`finish` puts everything in place and returns where the card is."""

    def write(self, split: str, batch: pa.RecordBatch) -> None: ...

    def finish(self, card: str, manifest: Mapping[str, Any], hits: Sequence[Mapping[str, Any]]) -> Path: ...


def target(request: Request, scratch: Path) -> Target:
    """The target of ``request``, which writes into ``scratch`` (of the same file system) first."""
    return OneFile(request, scratch) if request.one_file else Folder(request, scratch)


def refuse_foreign(output: Path) -> None:
    """Raise BadInput where ``output`` is something that no export made."""
    if output.is_dir() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise BadInput(f"{output}: exists and is no export of selfalign; name another folder")
    if output.suffix.lower() in (".parquet", ".jsonl"):
        if output.is_dir():
            raise BadInput(f"{output}: is a folder; name a file, or a folder without that ending")
    elif output.is_file():
        raise BadInput(f"{output}: is a file; name a folder, or a file that ends with .parquet or .jsonl")


@contextlib.contextmanager
def scratch_beside(output: Path) -> Iterator[Path]:
    """A folder beside ``output``, gone at the end of the block."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Folder:
    """README.md beside data/ with its shards, or a folder of ``save_to_disk``."""

    def __init__(self, request: Request, scratch: Path) -> None:
        self._request = request
        self._streams = scratch
        self._made = scratch / "made"
        self._data = self._made / "data"
        self._splits: dict[str, Part | Shards] = {}

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        if split not in self._splits:
            self._splits[split] = self._begin(split, batch.schema)
        self._splits[split].write(batch)

    def _begin(self, split: str, schema: pa.Schema) -> Part | Shards:
        if self._request.format == "hf":
            return PARTS["hf"](self._streams / split, schema)
        self._data.mkdir(parents=True, exist_ok=True)
        return Shards(self._data, split, self._request.format)

    def finish(self, card: str, manifest: Mapping[str, Any], hits: Sequence[Mapping[str, Any]]) -> Path:
        for part in self._splits.values():
            part.close()
        if self._request.format == "hf":
            _save_to_disk({split: self._streams / split for split in SPLITS if split in self._splits}, self._made)
        (self._made / CARD).write_text(card, encoding="utf-8")
        if hits:
            (self._made / HITS).write_text("".join(f"{json_line(hit)}\n" for hit in hits), encoding="utf-8")
        (self._made / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
        for path in [*self._made.rglob("*"), self._made]:
            sync(path)
        _take_place(self._made, self._request.output)
        return self._request.output / CARD


class OneFile:
    """A file of rows; the card is called as the file, with .md behind it, and so is the report of benchmarks."""

    def __init__(self, request: Request, scratch: Path) -> None:
        self._output, self._format = request.output, request.format
        self._made = scratch / "rows.made"
        self._part: Part | None = None

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        if self._part is None:
            self._part = PARTS[self._format](self._made, batch.schema)
        self._part.write(batch)

    def finish(self, card: str, manifest: Mapping[str, Any], hits: Sequence[Mapping[str, Any]]) -> Path:
        assert self._part is not None, "an export without rows is refused before"
        self._part.close()
        sync(self._made)
        self._made.replace(self._output)
        beside = self._output.with_name(f"{self._output.name}.md")
        write_atomic(beside, card)
        report = self._output.with_name(f"{self._output.name}.{HITS}")
        if hits:
            write_atomic(report, "".join(f"{json_line(hit)}\n" for hit in hits))
        else:
            report.unlink(missing_ok=True)
        return beside


def _save_to_disk(streams: Mapping[str, Path], folder: Path) -> None:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        found = {split: datasets.Dataset.from_file(str(path)) for split, path in streams.items()}
        whole = datasets.DatasetDict(found) if len(found) > 1 else next(iter(found.values()))
        whole.save_to_disk(str(folder))
    finally:
        if shown:
            datasets.enable_progress_bars()


def _take_place(made: Path, output: Path) -> None:
    """Rename ``made`` to ``output``; what was there is removed once the new one has its name."""
    old = made.with_name("old")
    if output.exists():
        output.rename(old)
    try:
        made.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    sync(output.parent)
