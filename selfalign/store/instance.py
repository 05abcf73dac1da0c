"""A DuckDB instance to which a store is attached for as long as one connection.

What costs is DuckDB itself, not the file: making an instance takes some 20 ms, attaching a store to one 4. So one is
kept between two connections: in memory, without a file, and without threads of its own, so that a fork is safe.
"""

from __future__ import annotations

import atexit
import contextlib
from pathlib import Path
from typing import Any

import duckdb

from selfalign.store.quoting import literal

#: Nothing may call out: DuckDB would otherwise try to download an extension for seconds.
_CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "1"}
#: What the store is called in its instance.
_NAME = "store"
_idle: list[Any] = []


class Instance:
    """One that nobody else uses until it is given back."""

    def __init__(self, path: Path, threads: int) -> None:
        """``path`` is the store's file; attached by :meth:`attach`."""
        self._path = path
        #: Where a large sort goes, as DuckDB itself does for a file that it opens.
        self._spill = path.with_name(f"{path.name}.tmp")
        try:
            self._instance = _idle.pop()
        except IndexError:
            self._instance = duckdb.connect(config=_CONFIG)
        self._instance.execute("SET temp_directory = ?", [str(self._spill)])
        self._instance.execute("SET threads = ?", [threads])

    def attach(self, read_only: bool) -> Any:
        """A connection whose database is the store's file.

        Raises:
            duckdb.Error: the file cannot be attached; may be tried again.
        """
        self._instance.execute(f"ATTACH {literal(self._path)} AS {_NAME}{' (READ_ONLY)' if read_only else ''}")
        connection = self._instance.cursor()
        connection.execute(f"USE {_NAME}")
        return connection

    def give_back(self, *, sound: bool) -> None:
        """Close the file; the connection is closed already. What an error leaves of an instance is not used again."""
        with contextlib.suppress(duckdb.Error):
            # Writes a checkpoint; where that fails (disk full) the log still has every commit.
            self._instance.execute(f"DETACH DATABASE IF EXISTS {_NAME}")
            self._instance.execute("SET threads = 1")
            # One that has spilled is bound to that folder, and removes it as it is closed.
            if sound and not _idle and not self._spill.exists():
                _idle.append(self._instance)
                return
        with contextlib.suppress(duckdb.Error):
            self._instance.close()


@atexit.register
def _close_idle() -> None:
    """What is still open as Python ends is reported as leaked by DuckDB's bindings, on stderr."""
    while _idle:
        _idle.pop().close()
