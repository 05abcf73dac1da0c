"""Read-only SQL for people, also while the run is writing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from selfalign.errors import BadInput
from selfalign.store.connection import first_line, opened, process_lock

#: read_only guards the store; the rest guards the machine (files, network, settings, Python variables).
_CONFINED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # Beside a run that trains, on a disk that its checkpoints need.
    "memory_limit": "2GB",
    "max_temp_directory_size": "4GB",
    "lock_configuration": "true",
}
_ALLOWED = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


def read_sql(path: Path, sql: str, timeout: float = 30.0, max_seconds: float = 30.0) -> pa.Table:
    """The result of one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) on the store at ``path``.

    Args:
        timeout: seconds to wait for a writer.
        max_seconds: longest that the query may take: the run cannot write meanwhile.

    Raises:
        BadInput: not one SELECT, DuckDB refused it, or it took too long.
        StoreError: the store cannot be opened.
    """
    statement = _only_select(sql)
    with process_lock(path).lock, opened(path, read_only=True, timeout=timeout, config=_CONFINED) as connection:
        interrupt = threading.Timer(max_seconds, connection.interrupt)
        interrupt.start()
        try:
            return connection.sql(statement).to_arrow_table()
        except duckdb.InterruptException:
            raise BadInput(
                f"the query took longer than {max_seconds:.0f} s and would hold up the run; narrow it, or query a copy "
                f"of {path}"
            ) from None
        except duckdb.Error as error:
            raise BadInput(first_line(error)) from None
        finally:
            interrupt.cancel()


def _only_select(sql: str) -> Any:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise BadInput(first_line(error)) from None
    if len(statements) != 1:
        raise BadInput(f"{len(statements)} statements given; write exactly one SELECT")
    if statements[0].type not in _ALLOWED:
        raise BadInput(f"{statements[0].type.name} is not allowed here, the store is read-only; write one SELECT")
    return statements[0].query
