"""SQL given from outside reads this store and nothing else, and ends: beside tests/store/test_read_sql.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from selfalign.errors import BadInput
from selfalign.store.store import Store, read_sql
from selfalign.types import Prompt
from tests.store.rows import prompt

REFUSED = [
    # files and folders
    "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM read_parquet('/etc/*.parquet')",
    "SELECT * FROM read_json('/etc/passwd')", "SELECT * FROM read_ndjson_objects('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM parquet_schema('/etc/passwd')", "FROM '/etc/passwd'", "SELECT * FROM '/etc/*'",
    "FROM 'file:///etc/passwd'", "FROM query_table('/etc/passwd')", "SELECT content FROM read_text('~/.ssh/id_rsa')",
    "SELECT * FROM query('FROM read_text(''/etc/passwd'')')", "FROM duckdb_external_file_cache('/etc/passwd')",
    "SELECT * FROM prompts WHERE EXISTS (SELECT * FROM read_csv('/etc/passwd'))",
    "WITH x AS (FROM read_text('/etc/passwd')) FROM x", "SELECT (FROM read_text('/etc/passwd'))",
    # network and other stores
    "FROM 'http://127.0.0.1:9/x.parquet'", "FROM 's3://bucket/x.parquet'", "ATTACH ':memory:' AS m",
    "ATTACH 'http://127.0.0.1:9/x.duckdb'", "DETACH store", "USE memory", "FROM sqlite_scan('/etc/x', 'y')",
    # machine and settings
    "SELECT getenv('HOME')", "SELECT getenv('PATH') FROM prompts", "SET memory_limit = '99GB'", "SET threads = 64",
    "SET VARIABLE x = 1", "RESET ALL", "PRAGMA database_list; SELECT 1", "PRAGMA memory_limit = '1TB'",
    "CREATE SECRET s (TYPE s3)", "CALL enable_logging()", "FORCE INSTALL spatial FROM community",
    # writing by another name
    "PREPARE p AS DELETE FROM prompts", "EXECUTE p", "BEGIN", "VACUUM", "ANALYZE", "TRUNCATE prompts",
    "ALTER TABLE prompts ADD COLUMN x INTEGER", "COMMENT ON TABLE prompts IS 'x'", "CREATE MACRO f() AS 1",
    "MERGE INTO prompts USING prompts p ON true WHEN MATCHED THEN DELETE", "IMPORT DATABASE '/tmp/x'",
    "WITH x AS (INSERT INTO prompts SELECT * FROM prompts RETURNING *) FROM x",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    "COPY (FROM prompts) TO '/dev/stdout'", "EXPLAIN ANALYZE COPY prompts TO '/tmp/selfalign-attack.csv'",
    # this program's own variables
    "SELECT * FROM attack", "SELECT * FROM REFUSED", "SELECT * FROM store",
]  # fmt: skip


@pytest.mark.parametrize("attack", REFUSED)
def test_it_is_refused_and_nothing_is_changed(store: Store, attack: str) -> None:
    store.insert([prompt()])
    with pytest.raises(BadInput) as raised:
        read_sql(store.path, attack)
    assert "\n" not in str(raised.value) and "root:x" not in str(raised.value)
    assert store.rows(Prompt) == [prompt()]
    assert not Path("/tmp/selfalign-attack.csv").exists()


ENDLESS = "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t"


def test_a_recursion_without_end_is_ended(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(BadInput):
        read_sql(store.path, ENDLESS, max_seconds=0.5)
    assert time.monotonic() - started < 20
    assert store.insert([prompt()]) == 1


@pytest.mark.parametrize(
    "greedy",
    [
        "SELECT list(a.range) FROM range(2000000000) a",
        "SELECT list(a.range || '-' || b.range) FROM range(100000) a, range(100000) b",
    ],
)
def test_memory_is_bounded(store: Store, greedy: str) -> None:
    """By a limit of its own, not by the machine's: a run is training beside it."""
    with pytest.raises(BadInput) as raised:
        read_sql(store.path, greedy, max_seconds=5)
    assert "\n" not in str(raised.value)


def test_the_limits_are_in_force(store: Store) -> None:
    limits = read_sql(
        store.path, "select current_setting('memory_limit') m, current_setting('lock_configuration') l, "
        "current_setting('enable_external_access') e, current_setting('max_temp_directory_size') t",
    ).to_pylist()[0]  # fmt: skip
    assert limits == {"m": "1.8 GiB", "l": True, "e": False, "t": "3.7 GiB"}
