"""The hand-over between the run and a stage process: a folder, no sockets, no shared database.

    jobs/round-1-generate-3f9a0c1d/   (the last part is of the stage's fingerprint: other settings, other folder)
      job.json            what to do
      in/*.arrow          input rows
      out/00007/*.arrow   finished batches, one file a table; a batch folder appears by rename, whole
      progress.json       done/total, for people
      error.json          why the process stopped, if it did on purpose

The stage process writes batches, the run (the only writer of the store) commits each in one
transaction and removes the folder. A batch that was renamed survives any kill: whoever starts next
commits it, and ids make a second commit harmless. What a power cut leaves unreadable is set aside and
made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from selfalign import errors
from selfalign.durable import sync, write_atomic
from selfalign.errors import SelfAlignError, StageFailed
from selfalign.failpoints import reach
from selfalign.store.arrow import from_table, to_table
from selfalign.types import TABLES, Row

R = TypeVar("R")
#: Python's and torch's; by name, since nothing here loads torch.
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError")


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units (0: not known yet), ``before`` of them by an earlier process.

    ``at`` is when the last of them was done, in seconds since 1970.
    """

    done: int
    total: int
    unit: str
    note: str = ""
    before: int = 0
    at: float = 0.0

    @property
    def told(self) -> list[str]:
        """How many of how many, and the note: what of it there is to tell."""
        counted = f"{self.done}/{self.total} {self.unit}" if self.total else ""
        return [part for part in (counted, self.note) if part]

    def seconds_left(self, began: float, now: float) -> float | None:
        """At the pace since ``began``, when this process did; None where nothing was done since, or all is done."""
        made = self.done - self.before
        if made <= 0 or self.done >= self.total or self.at <= began:
            return None
        return max((self.at - began) / made * (self.total - self.done) - (now - self.at), 0.0)


class JobFolder:
    """Both sides' view of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs = path / "in"
        self.batches = path / "out"
        self.log = path / "worker.log"

    # -- the run's side ---------------------------------------------------------------------------

    def prepare(self, spec: Mapping[str, Any], inputs: Mapping[str, Sequence[Any]]) -> None:
        """Write the job; finished batches of an earlier attempt must have been collected before."""
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir(parents=True)
        self.batches.mkdir(exist_ok=True)
        for leftover in ("error.json", "progress.json"):
            (self.path / leftover).unlink(missing_ok=True)
        for name, rows in inputs.items():
            if rows:
                _write_arrow(self.inputs / f"{name}.arrow", to_table(rows))
        write_atomic(self.path / "job.json", json.dumps(spec))
        reach("job_prepared")

    def collect(self) -> Iterator[tuple[Path, dict[str, pa.Table]]]:
        """Finished batches, oldest first, as (folder, table name -> rows); remove the folder once committed.

        A batch that cannot be read is set aside (``.damaged-...``): its rows are missing, so they are made again.
        """
        if not self.batches.is_dir():
            return
        for folder in sorted(self.batches.iterdir()):
            if folder.name.startswith("."):
                continue  # still being written, or left half-written by a kill
            try:
                tables = {file.stem: _read_arrow(file) for file in sorted(folder.glob("*.arrow"))}
            except (pa.ArrowException, OSError):
                folder.rename(folder.with_name(f".damaged-{folder.name}-{time.time_ns()}"))
                continue
            yield folder, tables

    def progress(self) -> Progress | None:
        try:
            return Progress(**json.loads((self.path / "progress.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def error(self) -> SelfAlignError | None:
        """The error the process stopped with, as the class it had there."""
        try:
            record = json.loads((self.path / "error.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        kind = getattr(errors, str(record.get("class")), StageFailed)
        return kind(record["message"]) if issubclass(kind, SelfAlignError) else StageFailed(record["message"])

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    # -- the stage process's side -----------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((self.path / "job.json").read_text())
        return spec

    def rows(self, name: str, kind: type[R]) -> list[R]:
        path = self.inputs / f"{name}.arrow"
        return from_table(kind, _read_arrow(path)) if path.is_file() else []

    def emit(self, number: int, rows: Sequence[Row]) -> None:
        """Hand over a finished batch: fsynced and renamed, so that it counts as done from here on."""
        aside = self.batches / f".{number:06d}.{os.getpid()}"
        by_table: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_table[TABLES[type(row)]].append(row)
        try:
            aside.mkdir(parents=True)
            for table, members in by_table.items():
                _write_arrow(aside / f"{table}.arrow", to_table(members))
            sync(aside)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)  # on a full disk half a batch would only take room
            raise
        reach("batch_written")
        aside.rename(self.batches / f"{number:06d}")
        sync(self.batches)
        reach("batch_renamed")

    def report(self, progress: Progress) -> None:
        # Renamed but not synced: it is only for people, and comes often. Nor is a full disk its business.
        aside = self.path / ".progress"
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(progress.__dict__))
            aside.replace(self.path / "progress.json")

    def fail(self, error: BaseException) -> None:
        unexpected = "StageDied" if type(error).__name__ in _OUT_OF_MEMORY else "StageFailed"
        name = type(error).__name__ if isinstance(error, SelfAlignError) else unexpected
        message = str(error) if isinstance(error, SelfAlignError) else f"{type(error).__name__}: {error}"
        write_atomic(self.path / "error.json", json.dumps({"class": name, "message": " ".join(message.split())}))


def _write_arrow(path: Path, table: pa.Table) -> None:
    with path.open("wb") as handle:
        with pa.ipc.new_file(handle, table.schema) as writer:
            writer.write_table(table)
        handle.flush()
        os.fsync(handle.fileno())


def _read_arrow(path: Path) -> pa.Table:
    # Read into memory, not mapped: the run removes the file as soon as its rows are committed.
    with pa.ipc.open_file(pa.BufferReader(path.read_bytes())) as reader:
        return reader.read_all()
