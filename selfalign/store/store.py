"""All access to a run's DuckDB file. Connections are opened for one batch or one query and closed at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa

from selfalign.durable import sync
from selfalign.errors import StageFailed
from selfalign.space import disk_full, is_disk_full
from selfalign.store import schema
from selfalign.store.connection import opened, process_lock
from selfalign.store.sql import read_sql
from selfalign.store.transaction import StageRecord, Status, Transaction, query, select_rows, select_stage
from selfalign.types import Row

__all__ = ["StageRecord", "Store", "Transaction", "read_sql"]

R = TypeVar("R")
_COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"


def copy_store(source: Path, target: Path, timeout: float = 30.0) -> None:
    """Copy a store's file while nobody writes to it, with everything that was committed.

    Raises:
        StoreError: there is none, or a writer holds it for longer than ``timeout`` seconds.
    """
    with process_lock(source).lock, opened(source, read_only=True, timeout=timeout):
        # Held open for reading, no other process can write: file and log belong together. Another process copies:
        # closing a handle on the file here would drop DuckDB's lock on it.
        for suffix in ("", ".wal"):
            file, copy = source.with_name(source.name + suffix), target.with_name(target.name + suffix)
            if file.exists():
                command = [sys.executable, "-S", "-c", _COPY, str(file), str(copy)]
                copied = subprocess.run(command, capture_output=True, text=True)
                if copied.returncode != 0:
                    last = (copied.stderr.strip().splitlines() or ["no reason given"])[-1]
                    raise StageFailed(f"{file}: cannot be copied to {copy}: {last}")
                sync(copy)


class Store:
    """The store at ``path``. Holds nothing open; any number of objects and threads may share a file.

    Every method may raise StoreError (no store, damaged, foreign, of another version, or held by another
    process for longer than ``write_timeout``/``read_timeout`` seconds), and those that write StageFailed
    (disk full). What was committed before stays readable.
    """

    def __init__(
        self,
        path: Path,
        *,
        write_timeout: float = 60.0,
        read_timeout: float = 30.0,
        migrations: Path = schema.MIGRATIONS,
    ) -> None:
        self.path = path
        self._write_timeout = write_timeout
        self._read_timeout = read_timeout
        self._migrations = schema.find_migrations(migrations)
        self._checked = False

    def create(self) -> None:
        """Make the file if there is none, migrate it if it is older, refresh its views. Safe to repeat.

        Raises:
            StoreError: the file is not a store, or a newer one; it is left as it was.
        """
        with process_lock(self.path).lock:
            made = not self.path.exists() and schema.create_file(self.path, self._migrations)
            if not made:
                with self._disk_full_explained():
                    schema.bring_up(self.path, self._migrations, self._write_timeout)
            self._checked = True

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction: committed at the end of the block, undone if it raises.

        Within an open one, of this thread, the same transaction is given again and ends with the outer block.
        """
        shared = process_lock(self.path)
        with shared.lock:
            if shared.transaction is not None:
                yield shared.transaction
                return
            with (
                self._disk_full_explained(),
                opened(self.path, read_only=False, timeout=self._write_timeout) as connection,
            ):
                self._check(connection)
                connection.begin()
                shared.transaction = Transaction(connection, self.path)
                try:
                    yield shared.transaction
                    connection.commit()
                except BaseException:
                    with contextlib.suppress(duckdb.Error):
                        connection.rollback()
                    raise
                finally:
                    shared.transaction = None

    @contextlib.contextmanager
    def read(self, *, oldest: int | None = None) -> Iterator[Any]:
        """A read-only DuckDB connection. The run cannot write meanwhile: take the result and leave the block.

        A store of an older version is refused, unless it is at least ``oldest``: then take only what it has.

        Within an open :meth:`write` of this thread it is that transaction's connection, and within an open
        :meth:`read` the same one again: opening a large store takes tens of milliseconds.
        """
        shared = process_lock(self.path)
        with shared.lock:
            if shared.transaction is not None:
                yield shared.transaction.connection
                return
            if shared.reading is not None:
                yield shared.reading
                return
            with opened(self.path, read_only=True, timeout=self._read_timeout) as connection:
                self._check(connection, oldest)
                shared.reading = connection
                try:
                    yield connection
                finally:
                    shared.reading = None

    # -- rows -----------------------------------------------------------------------------------------

    def insert(self, rows: Sequence[Row]) -> int:
        """Add rows of any classes in one transaction; returns how many were new.

        Evaluations and events replace rows of the same key, all other rows are kept as they were first written.
        """
        if not rows:
            return 0
        with self.write() as transaction:
            return transaction.insert(rows)

    def insert_arrow(self, table_name: str, table: pa.Table) -> int:
        """As :meth:`insert`, for an Arrow table whose columns are named as those of ``table_name``."""
        with self.write() as transaction:
            return transaction.insert_arrow(table_name, table)

    def rows(self, kind: type[R], where: str = "", params: Sequence[Any] = ()) -> list[R]:
        """Stored rows of a class, in order of round and id. ``where`` is a SQL condition with ? for ``params``."""
        with self.read() as connection:
            return select_rows(connection, kind, where, params)

    def query(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """Any SELECT, as an Arrow table in memory."""
        with self.read() as connection:
            return query(connection, sql, params)

    # -- the ledger -----------------------------------------------------------------------------------

    def stage(self, round: int, stage: str) -> StageRecord | None:
        """The last started attempt of a stage, whatever its fingerprint."""
        with self.read() as connection:
            return select_stage(connection, round, stage)

    def start_stage(self, round: int, stage: str, fingerprint: str) -> None:
        """Open an attempt; the first one with ``fingerprint`` is attempt 1."""
        with self.write() as transaction:
            transaction.upsert_stage(round, stage, fingerprint, status="running")

    def finish_stage(
        self,
        round: int,
        stage: str,
        fingerprint: str,
        *,
        rows_in: int,
        rows_out: int,
        detail: Mapping[str, Any] | None = None,
        rows: Sequence[Row] = (),
        status: Literal["done", "empty"] = "done",
    ) -> None:
        """Close an attempt; ``rows`` and the status are committed together."""
        with self.write() as transaction:
            transaction.insert(rows)
            transaction.upsert_stage(
                round, stage, fingerprint, status=status, rows_in=rows_in, rows_out=rows_out, detail=detail
            )

    def fail_stage(
        self,
        round: int,
        stage: str,
        fingerprint: str,
        *,
        status: Literal["failed", "empty"] = "failed",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Close an attempt that ended without its result."""
        with self.write() as transaction:
            transaction.upsert_stage(round, stage, fingerprint, status=status, detail=detail)

    # -- the run and its rounds -----------------------------------------------------------------------

    def put_run(self, run: str, *, seed: int, config: str, config_hash: str, environment: str, version: str) -> None:
        """Record the run this store belongs to; ``config`` and ``environment`` are JSON text."""
        with self.write() as transaction:
            transaction.put_run(
                run, seed=seed, config=config, config_hash=config_hash, environment=environment, version=version
            )

    def change_run(self, *, seed: int, config: str, config_hash: str) -> None:
        """Record the config that the run goes on with; those before it are in ``branches`` where rows depend on them."""
        with self.write() as transaction:
            transaction.execute("UPDATE runs SET seed = ?, config = ?, config_hash = ?", [seed, config, config_hash])

    def get_run(self) -> dict[str, Any] | None:
        """The row of ``runs``, or None before :meth:`put_run`."""
        found: list[dict[str, Any]] = self.query("SELECT * FROM runs ORDER BY created_at LIMIT 1").to_pylist()
        return found[0] if found else None

    def put_round(
        self,
        round: int,
        *,
        parent_hash: str | None = None,
        weights_hash: str | None = None,
        tokenizer_hash: str | None = None,
        trainer: str | None = None,
        reference_hash: str | None = None,
        start_hash: str | None = None,
        policy: Mapping[str, Any] | None = None,
        status: Status | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Create or update a round; None leaves what is there. "running" clears the end, other statuses set it."""
        with self.write() as transaction:
            transaction.put_round(
                round,
                parent_hash=parent_hash,
                weights_hash=weights_hash,
                tokenizer_hash=tokenizer_hash,
                trainer=trainer,
                reference_hash=reference_hash,
                start_hash=start_hash,
                policy=policy,
                status=status,
                detail=detail,
            )

    def _check(self, connection: Any, oldest: int | None = None) -> None:
        """Once for each object: other programs than ours may have made the file."""
        if self._checked:
            return
        known = schema.known_version(self._migrations)
        found = schema.check_version(connection, self.path, known)
        if found < (oldest or known):
            raise schema.outdated(self.path, found, known)
        self._checked = found == known

    @contextlib.contextmanager
    def _disk_full_explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise disk_full(self.path) if is_disk_full(error) else error from None
