from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from selfalign.errors import BadInput
from selfalign.store.store import Store, read_sql
from selfalign.types import Prompt
from tests.store.rows import prompt

ATTACKS = [
    "COPY prompts TO '{tmp}/out.csv'",
    "COPY (SELECT 1) TO '{tmp}/out.csv'",
    "ATTACH '{tmp}/other.duckdb' AS other",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "FROM '/etc/passwd'",
    "FROM '{tmp}/data.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "PRAGMA disable_checkpoint_on_shutdown",
    "CALL pragma_version()",
    "DELETE FROM prompts",
    "EXPLAIN ANALYZE DELETE FROM prompts",
    "WITH gone AS (DELETE FROM prompts RETURNING *) SELECT * FROM gone",
    "INSERT INTO prompts SELECT * FROM prompts",
    "UPDATE prompts SET text = ''",
    "DROP TABLE prompts",
    "CREATE TABLE mine (x INTEGER)",
    "CREATE TEMP TABLE mine (x INTEGER)",
    "EXPORT DATABASE '{tmp}/all'",
    "CHECKPOINT",
    "SELECT 1; SELECT 2",
    "SELECT 1; DELETE FROM prompts",
    "SELECT * FROM query('DELETE FROM prompts')",
    "SELECT * FROM statement",
    "SELECT no_such_column FROM prompts",
    "SELEC 1",
    "",
    "   -- nothing",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_but_one_select(store: Store, tmp_path: Path, attack: str) -> None:
    store.insert([prompt()])
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(BadInput) as raised:
        read_sql(store.path, attack.format(tmp=tmp_path))
    assert "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert store.rows(Prompt) == [prompt()]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from prompts", "FROM prompts;", "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "DESCRIBE prompts",
        "SHOW TABLES", "SUMMARIZE prompts", "EXPLAIN SELECT 1", "VALUES (1)", "select * from round_summary",
    ],
)  # fmt: skip
def test_reading_works(store: Store, sql: str) -> None:
    store.insert([prompt()])
    assert read_sql(store.path, sql).num_columns >= 1


def test_settings_of_the_process_stay_as_they_were(store: Store) -> None:
    read_sql(store.path, "select 1")
    assert store.insert([prompt()]) == 1
    assert store.query("select current_setting('enable_external_access') as on_")["on_"].to_pylist() == [True]


def test_commits_that_are_only_in_the_log_are_seen(store: Store, tmp_path: Path) -> None:
    # As after a kill: a copy of the file and its log, taken between commit and checkpoint.
    with store.write() as transaction:
        transaction.insert([prompt()])
        transaction.connection.commit()
        copy = tmp_path / "copy.duckdb"
        shutil.copy(store.path, copy)
        shutil.copy(f"{store.path}.wal", f"{copy}.wal")
        transaction.connection.begin()
    assert read_sql(copy, "select count(*) as n from prompts")["n"].to_pylist() == [1]


def test_a_query_that_never_ends_does_not_hold_up_the_run(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(BadInput, match="would hold up the run"):
        read_sql(store.path, "select sum(a.range * b.range) from range(10000000) a, range(1000000) b", max_seconds=0.3)
    assert time.monotonic() - started < 10
    assert store.insert([prompt()]) == 1


def test_parameters_are_bound_and_not_pasted(store: Store) -> None:
    store.insert([prompt("p1", text="it's"), prompt("p2", round=2)])
    hostile = "' or 1=1; delete from prompts --"
    sql = "select prompt_id from prompts where text = $t"
    assert read_sql(store.path, sql, params={"t": "it's"})["prompt_id"].to_pylist() == ["p1"]
    assert read_sql(store.path, sql, params={"t": hostile}).num_rows == 0
    by_round = "select prompt_id from prompts where round = $r"
    assert read_sql(store.path, by_round, params={"r": "2"})["prompt_id"].to_pylist() == ["p2"]
    with pytest.raises(BadInput, match="parameter"):
        read_sql(store.path, by_round)
    with pytest.raises(BadInput, match="excess parameters: x"):
        read_sql(store.path, by_round, params={"r": "2", "x": "1"})


@pytest.mark.parametrize(("limit", "rows"), [(0, 0), (1, 1), (5000, 5000), (20_000, 10_000)])
def test_a_limit_keeps_the_first_rows(store: Store, limit: int, rows: int) -> None:
    found = read_sql(store.path, "select range as n from range(10000) order by n desc", limit=limit)
    assert found["n"].to_pylist() == list(range(9999, 9999 - rows, -1))


@pytest.mark.parametrize("sql", ["describe prompts", "show tables", "explain select 1", "from prompts"])
def test_a_limit_holds_for_every_statement(store: Store, sql: str) -> None:
    store.insert([prompt()])
    assert read_sql(store.path, sql, limit=1).num_rows == 1


@pytest.mark.parametrize(
    ("sql", "near"),
    [
        ("select margins from pairs", '"margin"'), ("select * from round_sumary", "round_summary"),
        ("select averag(margin) from pairs", "Did you mean"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(store: Store, sql: str, near: str) -> None:
    with pytest.raises(BadInput, match=near):
        read_sql(store.path, sql)


def test_an_error_that_quotes_a_stored_value_shows_no_active_characters(store: Store) -> None:
    store.insert([prompt(text="\x1b[2Jgone")])
    with pytest.raises(BadInput) as raised:
        read_sql(store.path, "select text::integer from prompts")
    assert "\x1b" not in str(raised.value)
    assert "\\x1b[2Jgone" in str(raised.value)
