"""Several stores in one query: what is found where, what stays closed, and that nobody blocks anybody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selfalign.errors import BadInput, StoreError
from selfalign.store.sql import read_sql, read_sql_of_runs
from selfalign.store.store import Store
from tests.store.rows import evaluation, prompt
from tests.store.test_read_sql import ATTACKS


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path) -> dict[str, Path]:
    """Runs ``my-run`` (2 prompts, pass rate 0.5) and ``other`` (1 prompt, pass rate 0.25)."""
    found = {}
    for name, prompts, value in (("my-run", ("p1", "p2"), 0.5), ("other", ("p3",), 0.25)):
        (tmp_path / name).mkdir()
        store = Store(Path(shutil.copy(empty_store, tmp_path / name / "store.duckdb")))
        store.put_round(0, weights_hash="w0", status="done")
        store.insert([*(prompt(p) for p in prompts), evaluation("pass_rate_strict", value, round=0)])
        found[name] = store.path
    return found


def test_plain_names_are_the_first_runs_and_views_read_their_own_store(runs: dict[str, Path]) -> None:
    def one(sql: str) -> object:
        return read_sql_of_runs(runs, sql).to_pylist()[0]["x"]

    assert one("select count(*) as x from prompts") == 2
    assert one('select count(*) as x from "my-run".prompts') == 2
    assert one("select count(*) as x from other.prompts") == 1
    assert one("select pass_rate_strict as x from round_summary") == 0.5
    assert one("select pass_rate_strict as x from other.round_summary") == 0.25


def test_runs_compared_has_the_rounds_of_all(runs: dict[str, Path]) -> None:
    found = read_sql_of_runs(runs, "select run, model, pass_rate_strict from runs_compared order by run").to_pylist()
    assert found == [
        {"run": "my-run", "model": "M0", "pass_rate_strict": 0.5},
        {"run": "other", "model": "M0", "pass_rate_strict": 0.25},
    ]


@pytest.mark.parametrize("attack", [*ATTACKS, "DELETE FROM other.prompts", "SELECT * FROM read_text('{tmp}/secret.txt')",
                                    "FROM query('DELETE FROM other.prompts')"])  # fmt: skip
def test_nothing_but_one_select(runs: dict[str, Path], tmp_path: Path, attack: str) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("secret")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(BadInput) as raised:
        read_sql_of_runs(runs, attack.format(tmp=tmp_path))
    assert "\n" not in str(raised.value)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    assert read_sql(runs["other"], "select count(*) as n from prompts")["n"].to_pylist() == [1]


@pytest.mark.parametrize("name", ["", "a b", "x; drop", 'x"', "1x", "main", "Temp", "my-other", "é", "a\n"])
def test_a_name_that_sql_cannot_take_is_refused(runs: dict[str, Path], name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a run's name"):
        read_sql_of_runs({"my-run": runs["my-run"], name: runs["other"]}, "select 1")


def test_each_run_is_named_once(runs: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="named twice"):
        read_sql_of_runs({"a": runs["other"], "b": runs["other"]}, "select 1")
    with pytest.raises(BadInput, match="same name"):
        read_sql_of_runs({"a": runs["other"], "A": runs["my-run"]}, "select 1")


def test_what_is_no_store_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="not a DuckDB file"):
        read_sql_of_runs({**runs, "bad": tmp_path / "text.duckdb"}, "select 1")
    with pytest.raises(StoreError, match="no store here"):
        read_sql_of_runs({**runs, "gone": tmp_path / "gone.duckdb"}, "select 1")


_HOLDER = """
import sys, time
from pathlib import Path
from selfalign.store.store import Store
from tests.store.rows import prompt
with Store(Path(sys.argv[1])).write() as transaction:
    transaction.insert([prompt("late")])
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(runs: dict[str, Path]) -> Callable[[float], subprocess.Popen[str]]:
    """Start a process that writes to the other run for some seconds; returns once it has it."""

    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _HOLDER, str(runs["other"]), str(seconds)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        return holder

    return start


def test_a_writer_of_another_run_is_waited_for(
    runs: dict[str, Path], hold: Callable[[float], subprocess.Popen[str]]
) -> None:
    holder = hold(1.0)
    found = read_sql_of_runs(runs, "select count(*) as n from other.prompts")["n"].to_pylist()
    assert found == [2], "with what the writer committed"
    assert holder.wait(30) == 0


def test_a_writer_that_never_ends_is_named(
    runs: dict[str, Path], hold: Callable[[float], subprocess.Popen[str]]
) -> None:
    holder = hold(60.0)
    with pytest.raises(StoreError, match=f"process {holder.pid} has held the store"):
        read_sql_of_runs(runs, "select 1", timeout=0.5)
    holder.kill()
    holder.communicate()
    assert Store(runs["my-run"]).insert([prompt("next")]) == 1, "the first store is free again"
