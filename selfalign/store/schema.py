"""Brings a file to the schema this program knows. The SQL is in schema.sql, migrations/ and views/."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from selfalign.durable import sync
from selfalign.errors import StoreError
from selfalign.space import disk_full, is_disk_full
from selfalign.store.connection import opened
from selfalign.store.quoting import literal

_HERE = Path(__file__).parent
SCHEMA = _HERE / "schema.sql"
MIGRATIONS = _HERE / "migrations"
VIEWS = _HERE / "views"
#: The version that schema.sql itself writes.
_FIRST_VERSION = 1
#: Readable by DuckDB 1.5 and 2.0 alike.
_STORAGE_VERSION = "v1.5.0"
_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True)
class Migration:
    """One numbered step, from the version before to ``version``."""

    version: int
    path: Path


def find_migrations(folder: Path) -> list[Migration]:
    """Migrations in order.

    Raises:
        ValueError: a name is not NNNN_name.sql, or numbers are not 2, 3, ... without gaps.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        name = _MIGRATION_NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path}: a migration is called NNNN_name.sql")
        found.append(Migration(int(name[1]), path))
    expected = list(range(_FIRST_VERSION + 1, _FIRST_VERSION + 1 + len(found)))
    if [migration.version for migration in found] != expected:
        raise ValueError(f"{folder}: migrations must be numbered {_FIRST_VERSION + 1:04d}, ... without gaps")
    return found


def known_version(migrations: Sequence[Migration]) -> int:
    return migrations[-1].version if migrations else _FIRST_VERSION


def read_version(connection: Any, path: Path) -> int:
    """The version of an open store.

    Raises:
        StoreError: it is a DuckDB file, but not a store.
    """
    with contextlib.suppress(duckdb.CatalogException, duckdb.BinderException):
        found = connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0]
        if isinstance(found, int):
            return found
    raise StoreError(f"{path}: a DuckDB file, but not a selfalign store; nothing was changed, name another workspace")


def check_version(connection: Any, path: Path, known: int) -> int:
    """As :func:`read_version`.

    Raises:
        StoreError: the store is newer than this program, or no store.
    """
    found = read_version(connection, path)
    if found > known:
        raise StoreError(f"{path}: the store has version {found}, this program knows {known}; upgrade selfalign")
    return found


def outdated(path: Path, found: int, known: int) -> StoreError:
    return StoreError(
        f"{path}: the store has version {found}, this program writes {known}; 'selfalign run' brings it up to date"
    )


def create_file(path: Path, migrations: Sequence[Migration]) -> bool:
    """Make a store beside ``path`` and move it there whole: a kill leaves no half-made store.

    Returns False where another process was faster; its file stays.
    """
    log = path.with_name(path.name + ".wal")
    if log.exists():
        raise StoreError(f"{log}: belongs to a store that is gone; restore {path.name}, or move this file away")
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        connection = duckdb.connect()
        try:
            connection.execute(f"ATTACH {literal(aside)} AS store (STORAGE_VERSION '{_STORAGE_VERSION}')")
            connection.execute("USE store")
            _run_scripts(connection, [SCHEMA])
            _migrate(connection, migrations, _FIRST_VERSION)
            _run_scripts(connection, sorted(VIEWS.glob("*.sql")))
            connection.execute("CHECKPOINT store")
        finally:
            connection.close()
        return _publish(aside, path)
    except duckdb.Error as error:
        raise disk_full(path) if is_disk_full(error) else error from None
    finally:
        aside.unlink(missing_ok=True)
        aside.with_name(aside.name + ".wal").unlink(missing_ok=True)


def bring_up(path: Path, migrations: Sequence[Migration], timeout: float) -> None:
    """Migrate an existing store and refresh its views; a file that is no store is not written to.

    Raises:
        StoreError: no store, a newer one, or one in use.
    """
    known = known_version(migrations)
    with opened(path, read_only=True, timeout=timeout) as connection:
        check_version(connection, path, known)
    with opened(path, read_only=False, timeout=timeout) as connection:
        # Looked at again: another process may have had the file in between.
        _migrate(connection, migrations, check_version(connection, path, known))
        _run_scripts(connection, sorted(VIEWS.glob("*.sql")))


def _migrate(connection: Any, migrations: Sequence[Migration], version: int) -> None:
    for migration in migrations:
        if migration.version > version:
            _run_scripts(connection, [migration.path], migration.version)


def _run_scripts(connection: Any, scripts: Sequence[Path], version: int | None = None) -> None:
    connection.begin()
    try:
        for script in scripts:
            connection.execute(script.read_text(encoding="utf-8"))
        if version is not None:
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", [version])
        connection.commit()
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise


def _publish(aside: Path, path: Path) -> bool:
    sync(aside)
    try:
        os.link(aside, path)  # unlike a rename, never replaces a store that appeared meanwhile
    except FileExistsError:
        return False
    except OSError:
        aside.rename(path)  # a file system without links
    sync(path.parent)
    return True
