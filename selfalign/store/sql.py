"""Read-only SQL for people, also while the run is writing."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from selfalign.errors import BadInput
from selfalign.store.connection import attached, first_line, opened, process_lock
from selfalign.store.quoting import literal, quoted
from selfalign.visible import visible

#: Before anything is opened: nothing may be downloaded, and a query must not see this program's variables.
_QUIET = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # Beside a run that trains, on a disk that its checkpoints need.
    "memory_limit": "2GB",
    "max_temp_directory_size": "4GB",
}
#: read_only guards the store; this guards the machine: no other file, no network, and no way back.
_LOCKED = {"enable_external_access": "false", "lock_configuration": "true"}
_ALLOWED = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})
_RUN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names of DuckDB's own; a run attached under one of them would hide it or fail obscurely.
_RESERVED = frozenset({"main", "memory", "system", "temp", "information_schema", "pg_catalog"})
_HINTS = ("Did you mean", "Candidate bindings")


def read_sql(
    path: Path,
    sql: str,
    timeout: float = 30.0,
    max_seconds: float = 30.0,
    *,
    params: Mapping[str, str | int | float | None] | None = None,
    limit: int | None = None,
) -> pa.Table:
    """The result of one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) on the store at ``path``.

    Args:
        timeout: seconds to wait for a writer.
        max_seconds: longest that the query may take: the run cannot write meanwhile.
        params: values of $name in ``sql``, bound and never pasted. Text is compared as the column's type.
        limit: rows to return at most.

    Raises:
        BadInput: not one SELECT, DuckDB refused it, or it took too long.
        StoreError: the store cannot be opened.
    """
    statement = _only_select(sql)
    config = {**_QUIET, **_LOCKED}
    with process_lock(path).lock, opened(path, read_only=True, timeout=timeout, config=config) as connection:
        return _answer(connection, statement, params, limit, max_seconds)


def read_sql_of_runs(
    runs: Mapping[str, Path],
    sql: str,
    timeout: float = 30.0,
    max_seconds: float = 30.0,
    *,
    params: Mapping[str, str | int | float | None] | None = None,
    limit: int | None = None,
) -> pa.Table:
    """As :func:`read_sql` over several stores: ``runs`` maps the name in SQL to the store's path.

    A table without a name before it is the first run's. The view ``runs_compared`` has every run's
    ``round_summary``, with the run's name in the column ``run``.

    Raises:
        BadInput: as :func:`read_sql`, or a name that SQL cannot take.
        StoreError: one of the stores cannot be opened, or is none.
    """
    statement = _only_select(sql)
    for name in list(runs)[1:]:
        _check_name(name)
    lowered = [name.lower() for name in runs]
    if len(set(lowered)) < len(lowered):
        raise BadInput(f"two runs have the same name ({', '.join(runs)}); give each another one in --with NAME=RUN")
    if len({path.resolve() for path in runs.values()}) < len(runs):
        raise BadInput("a run is named twice; compare it with another one")
    first = next(iter(runs))
    # Where a large sort spills, as DuckDB itself does for a file it opens; its default is the current folder.
    lock_down = {"temp_directory": f"{runs[first]}.tmp", **_LOCKED}
    with (
        _process_locks(runs.values()),
        attached(runs, timeout=timeout, config=_QUIET, lock_down=lock_down) as connection,
    ):
        _compare(connection, runs)
        connection.execute(f"USE {quoted(first)}")
        return _answer(connection, statement, params, limit, max_seconds)


def _check_name(name: str) -> None:
    if not _RUN_NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise BadInput(
            f"{name!r} cannot be a run's name in SQL; use letters, digits and _, as in --with before=runs/first"
        )


@contextlib.contextmanager
def _process_locks(paths: Any) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        for path in sorted({path.resolve() for path in paths}):
            held.enter_context(process_lock(path).lock)
        yield


def _compare(connection: Any, runs: Mapping[str, Path]) -> None:
    parts = []
    for name, path in runs.items():
        found = connection.execute(
            "SELECT 1 FROM duckdb_views() WHERE database_name = ? AND view_name = 'round_summary'", [name]
        ).fetchall()
        if not found:
            raise BadInput(f"{path}: has no round_summary, it is not a selfalign store; name a run's folder")
        parts.append(f"SELECT {literal(name)} AS run, * FROM {quoted(name)}.main.round_summary")
    # By name: runs of two versions may have figures that the other has not.
    connection.execute(f"CREATE TEMP VIEW runs_compared AS {' UNION ALL BY NAME '.join(parts)}")


def _answer(
    connection: Any, statement: str, params: Mapping[str, Any] | None, limit: int | None, max_seconds: float
) -> pa.Table:
    interrupt = threading.Timer(max_seconds, connection.interrupt)
    interrupt.start()
    try:
        relation = connection.sql(statement, params=dict(params) if params else None)
        return relation.to_arrow_table() if limit is None else _first(relation, limit)
    except duckdb.InterruptException:
        raise BadInput(
            f"the query took longer than {max_seconds:.0f} s and would hold up the run; narrow it, or query a copy "
            f"of the store"
        ) from None
    except duckdb.Error as error:
        raise BadInput(_explained(error)) from None
    finally:
        interrupt.cancel()


def _first(relation: Any, limit: int) -> pa.Table:
    reader = relation.to_arrow_reader(max(1, limit))
    batches, wanted = [], limit
    while wanted > 0 and (batch := next(reader, None)) is not None:
        batches.append(batch.slice(0, wanted))
        wanted -= batches[-1].num_rows
    return pa.Table.from_batches(batches, reader.schema)


def _explained(error: BaseException) -> str:
    """DuckDB's message and its nearest names in one line. It may quote stored values: they are made visible."""
    hints = [line.strip() for line in str(error).split("\n")[1:] if line.strip().startswith(_HINTS)]
    return visible(" ".join([first_line(error), *hints]))


def _only_select(sql: str) -> Any:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise BadInput(_explained(error)) from None
    if len(statements) != 1:
        raise BadInput(f"{len(statements)} statements given; write exactly one SELECT")
    if statements[0].type not in _ALLOWED:
        raise BadInput(f"{statements[0].type.name} is not allowed here, the store is read-only; write one SELECT")
    return statements[0].query
