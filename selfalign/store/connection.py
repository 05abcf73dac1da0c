"""Opening the store's file: one process writes or several read, and everybody gets a turn.

DuckDB refuses a second process outright. Connections are therefore short, and whoever finds the file
taken waits. To wait fairly, a process first takes the *turnstile* (a lock on the store's folder) and
holds it until its connection is open: a writer that commits in a tight loop then queues behind a
reader that came first, and a crowd of readers cannot starve the writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from selfalign.errors import StoreError
from selfalign.space import disk_full, is_disk_full
from selfalign.store.instance import Instance
from selfalign.store.quoting import literal, quoted

#: Short to the end: whoever looks rarely loses the turn to those who come anew, and a batch then waits for seconds.
_FIRST_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.02
_WAIT_GROWTH = 1.5
#: Batches are small, and a stage on the same machine wants the cores.
_MOST_THREADS = 4
#: DuckDB's words where the file is open in this process by another instance.
_OPEN_HERE = "Unique file handle conflict"

_PID = re.compile(r"\(PID (\d+)\)")


@dataclass
class ProcessLock:
    """What the threads of this process share about one file; DuckDB refuses to mix modes within a process."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    #: The open transaction of the thread that holds the lock.
    transaction: Any = None
    #: The open read-only connection of the thread that holds the lock.
    reading: Any = None


_process_locks: dict[Path, ProcessLock] = {}
_process_locks_guard = threading.Lock()


def process_lock(path: Path) -> ProcessLock:
    """The one lock of this process for ``path``, whichever object asks."""
    with _process_locks_guard:
        return _process_locks.setdefault(path.resolve(), ProcessLock())


@contextlib.contextmanager
def opened(path: Path, *, read_only: bool, timeout: float, config: Mapping[str, str] | None = None) -> Iterator[Any]:
    """An open connection, closed at the end of the block.

    Raises:
        StoreError: no such file, not a DuckDB file, damaged, or in use for ``timeout`` seconds.
    """
    if config:
        with _own_instance(path, read_only, timeout, config) as connection:
            yield connection
        return
    # Should something else in this process open the file while we write, it is refused, but the kernel then drops
    # DuckDB's lock on the file until we are done.
    instance, sound, connection = Instance(path, _threads()), False, None
    try:
        connection = _patiently(path, timeout, lambda: _attach(instance, path, read_only))
        yield connection
        sound = True
    except duckdb.Error as error:
        raise (damaged(path, error) if is_damage(error) else error) from None
    finally:
        if connection is not None:
            _close(connection)
        instance.give_back(sound=sound)


def _attach(instance: Instance, path: Path, read_only: bool) -> Any:
    try:
        return instance.attach(read_only)
    except duckdb.Error as error:
        if _OPEN_HERE not in str(error):
            raise
    # A notebook's own plain connection to the file is shared, if it is of the same mode.
    return duckdb.connect(str(path), read_only=read_only)


@contextlib.contextmanager
def _own_instance(path: Path, read_only: bool, timeout: float, config: Mapping[str, str]) -> Iterator[Any]:
    connection = _patiently(path, timeout, lambda: duckdb.connect(str(path), read_only=read_only, config=dict(config)))
    try:
        yield connection
    except duckdb.Error as error:
        raise (damaged(path, error) if is_damage(error) else error) from None
    finally:
        _close(connection)


@contextlib.contextmanager
def attached(
    paths: Mapping[str, Path], *, timeout: float, config: Mapping[str, str], lock_down: Mapping[str, str]
) -> Iterator[Any]:
    """An open connection with several stores attached read-only under their names, closed at the end of the block.

    ``config`` holds from the start; ``lock_down`` is set once the files are attached, in its order.

    Raises:
        StoreError: as :func:`opened`, for any of the files; ``timeout`` is for each.
    """
    connection = duckdb.connect(config=dict(config))
    try:
        # In one order for everybody: two readers that wait for each other's files would stop both runs' writers.
        for name, path in sorted(paths.items(), key=lambda item: str(item[1].resolve())):
            sql = f"ATTACH {literal(path)} AS {quoted(name)} (READ_ONLY)"
            _patiently(path, timeout, lambda sql=sql: connection.execute(sql))  # type: ignore[misc]
        for key, value in lock_down.items():
            connection.execute(f"SET {key} = {literal(value)}")
        yield connection
    finally:
        _close(connection)


def first_line(error: BaseException) -> str:
    """DuckDB's message without its stack of hints."""
    return str(error).strip().split("\n", 1)[0]


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is at fault: DuckDB opens a damaged file, and finds out when it reads a block."""
    internal = isinstance(error, duckdb.InternalException | duckdb.FatalException | duckdb.SerializationException)
    return "orrupt" in str(error) or "checksum" in str(error) or (internal and not is_disk_full(error))


def damaged(path: Path, error: BaseException) -> StoreError:
    return StoreError(f"{path}: damaged or unreadable ({first_line(error)}); restore the file from a copy")


def _patiently(path: Path, timeout: float, open_file: Callable[[], Any]) -> Any:
    """What ``open_file`` returns, tried in turn until nobody else has ``path``."""
    if not path.is_file():
        raise StoreError(f"{path}: no store here; 'selfalign run CONFIG' makes one")
    deadline = time.monotonic() + timeout
    # Half of the time at most: behind a reader that never ends, other readers still get in without a turn.
    with _turnstile(path.parent, time.monotonic() + timeout / 2):
        for wait in _waits():
            try:
                return open_file()
            except duckdb.Error as error:
                if is_disk_full(error):  # a write-ahead log to be replayed may need room
                    raise disk_full(path) from None
                if not _is_locked(error):
                    raise _cannot_open(path, error) from None
                if time.monotonic() + wait > deadline:
                    raise _in_use(path, error, timeout) from None
            time.sleep(wait)
    raise AssertionError("waits are endless")


def _waits() -> Iterator[float]:
    wait = _FIRST_WAIT_S
    while True:
        yield wait
        wait = min(wait * _WAIT_GROWTH, _LONGEST_WAIT_S)


@contextlib.contextmanager
def _turnstile(folder: Path, deadline: float) -> Iterator[None]:
    # The folder, not the store's file: closing any handle on that file would drop DuckDB's own POSIX lock.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        _take_turn(handle, deadline)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would not free it if another thread forked just now
        os.close(handle)


def _take_turn(handle: int, deadline: float) -> None:
    for wait in _waits():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
        except OSError:
            return  # a file system without flock: DuckDB's own lock still protects the data
        time.sleep(wait)


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _close(connection: Any) -> None:
    with contextlib.suppress(duckdb.Error):
        # The last connection writes a checkpoint; where that fails (disk full) the log still has every commit.
        connection.close()


def _is_locked(error: duckdb.Error) -> bool:
    return isinstance(error, duckdb.IOException) and "Could not set lock on file" in str(error)


def _in_use(path: Path, error: duckdb.Error, timeout: float) -> StoreError:
    holder = _PID.search(str(error))
    who = f"process {holder[1]}" if holder else "another process"
    return StoreError(
        f"{path}: {who} has held the store for {timeout:.0f} s; close it there (an open DuckDB shell or notebook?), "
        f"then run again"
    )


def _cannot_open(path: Path, error: duckdb.Error) -> StoreError:
    text = first_line(error)
    known: tuple[tuple[str, Callable[[], str]], ...] = (
        ("not a valid DuckDB database", lambda: "not a DuckDB file, nothing was changed; name another workspace"),
        (
            "different configuration",
            lambda: "already open in this process in another mode; close that duckdb connection first",
        ),
        ("Permission denied", lambda: "permission denied; give yourself read and write access to it"),
        ("we can only read versions", lambda: f"written by another DuckDB ({text}); upgrade duckdb"),
    )
    for words, explain in known:
        if words in str(error):
            return StoreError(f"{path}: {explain()}")
    return damaged(path, error)
