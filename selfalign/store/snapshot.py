"""One moment of a store: many queries that see the same rows, however busily the run writes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from selfalign.errors import BadInput
from selfalign.store.quoting import quoted
from selfalign.store.schema import VIEWS
from selfalign.store.store import Store

#: Every store has been through at least this version.
_OLDEST = 1
_DEFINES = "CREATE OR REPLACE VIEW"


class Snapshot:
    """What is asked of it sees one state of the store. A view that only this program knows is lent to it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._columns: dict[str, list[str]] = {}
        self._lend_views()

    def columns(self, table: str) -> list[str]:
        """Names of the columns of a table or view; none where this store, being older, cannot have it."""
        if table not in self._columns:
            found = self._connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
            ).fetchall()
            self._columns[table] = [name for (name,) in found]
        return self._columns[table]

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT; ``params`` are the values of its $names."""
        found: list[dict[str, Any]] = self._connection.sql(sql, params=dict(params or {})).to_arrow_table().to_pylist()
        return found

    def _lend_views(self) -> None:
        """Views of this program that an older one's store has not, as temporary ones: nothing is written."""
        known = {name for (name,) in self._connection.execute("SELECT view_name FROM duckdb_views()").fetchall()}
        for path in sorted(VIEWS.glob("*.sql")):
            if path.stem not in known:
                definition = path.read_text(encoding="utf-8")
                with contextlib.suppress(duckdb.Error):  # about tables that this store has not
                    self._connection.execute(definition.replace(_DEFINES, "CREATE TEMP VIEW", 1))


@contextlib.contextmanager
def snapshot(path: Path, max_seconds: float | None = 30.0) -> Iterator[Snapshot]:
    """The store at ``path``, for the length of the block; a run that writes to it waits meanwhile.

    Args:
        max_seconds: longest that the block may take; None where no run is at work that would wait.

    Raises:
        BadInput: the block took longer.
        StoreError: the store cannot be opened.
    """
    with Store(path).read(oldest=_OLDEST) as connection:
        interrupt = threading.Timer(max_seconds or 0, connection.interrupt)
        interrupt.daemon = True
        if max_seconds is not None:
            interrupt.start()
        try:
            yield Snapshot(connection)
        except duckdb.InterruptException:
            raise BadInput(
                f"{path}: reading took longer than {max_seconds:.0f} s and would hold up the run that is at work; try "
                f"again when it is done"
            ) from None
        finally:
            interrupt.cancel()


def select(columns: list[str], wanted: list[str], table: str) -> str:
    """A SELECT of ``wanted``; those that ``table`` has not among its ``columns`` are NULL."""
    listed = (quoted(name) if name in columns else f"NULL AS {quoted(name)}" for name in wanted)
    return f"SELECT {', '.join(listed)} FROM {quoted(table)}"
