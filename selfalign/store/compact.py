"""Giving back the room of deleted rows: DuckDB reuses it, but never makes its file smaller."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import duckdb

from selfalign.durable import sync
from selfalign.errors import StoreError
from selfalign.space import disk_full, is_disk_full
from selfalign.store.connection import first_line, opened, process_lock
from selfalign.store.quoting import literal

#: As the store is made (schema.py): readable by DuckDB 1.5 and 2.0 alike.
_STORAGE_VERSION = "v1.5.0"
_TIMEOUT_S = 60.0
#: Tables that a branch's rows are moved to when they leave the run's present history.
_ARCHIVED = re.compile(r"archived_\w+")


def reclaimable_bytes(path: Path) -> int:
    """Roughly what :func:`compact` would give back: blocks of the file that hold nothing."""
    with process_lock(path).lock, opened(path, read_only=True, timeout=_TIMEOUT_S) as connection:
        size = connection.execute("SELECT block_size, free_blocks FROM pragma_database_size()").fetchall()[0]
    return int(size[0]) * int(size[1])


def compact(path: Path) -> int:
    """Copy the store into a file beside it, check every table's count, and put it in place; returns bytes given back.

    Nobody else can open the file meanwhile, and a kill leaves the old file as it was.

    Raises:
        StoreError: the copy differs from the store, which stays as it is.
        DiskFull: no room for the copy.
    """
    aside = path.with_name(f".{path.name}.compacted")
    before = path.stat().st_size
    _remove(aside)
    try:
        with process_lock(path).lock, opened(path, read_only=False, timeout=_TIMEOUT_S) as connection:
            connection.execute("CHECKPOINT")  # what is still in the log would be left out of the file
            _copy(connection, path, aside)
            sync(aside)
            # While the old file is still held open and locked: nobody can have written to it in between.
            aside.replace(path)
            sync(path.parent)
    except duckdb.Error as error:
        raise disk_full(path) if is_disk_full(error) else StoreError(f"{path}: {first_line(error)}") from None
    finally:
        _remove(aside)
    return before - path.stat().st_size


def archived_tables(connection: Any) -> list[str]:
    """Tables with rows of branches."""
    names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
    return sorted(name for (name,) in names if _ARCHIVED.fullmatch(name))


def _copy(connection: Any, path: Path, aside: Path) -> None:
    source = connection.execute("SELECT current_database()").fetchall()[0][0]
    connection.execute(f"ATTACH {literal(aside)} AS compacted (STORAGE_VERSION '{_STORAGE_VERSION}')")
    connection.execute(f'COPY FROM DATABASE "{source}" TO compacted')
    try:
        for name, count in _counts(connection, source).items():
            if _counts(connection, "compacted").get(name) != count:
                raise StoreError(f"{path}: the copy of {name} is not whole; nothing was changed, try again")
        if _objects(connection, "compacted") != _objects(connection, source):
            raise StoreError(f"{path}: the copy lacks a view or an index; nothing was changed")
    finally:
        connection.execute("DETACH compacted")  # writes it out


def _counts(connection: Any, database: str) -> dict[str, int]:
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND NOT internal", [database]
    ).fetchall()
    return {
        name: connection.execute(f'SELECT count(*) FROM "{database}"."{name}"').fetchall()[0][0] for (name,) in names
    }


def _objects(connection: Any, database: str) -> set[tuple[str, str]]:
    found = connection.execute(
        "SELECT 'view', view_name FROM duckdb_views() WHERE database_name = ? AND NOT internal UNION ALL "
        "SELECT 'constraint', table_name || ':' || constraint_text FROM duckdb_constraints() WHERE database_name = ?",
        [database, database],
    ).fetchall()
    return set(found)


def _remove(aside: Path) -> None:
    for file in (aside, aside.with_name(aside.name + ".wal")):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
