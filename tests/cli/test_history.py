"""``selfalign branches`` and ``selfalign status`` only read, also stores of an older version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign.cli.app import app
from selfalign.store.store import Store

BRANCH = (
    "insert into branches (branch, from_round, from_stage, reason, detail, config) "
    "values ('b1', 1, 'judge', 'config', 'another judge', '{}')"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store.duckdb")
    store.create()
    store.put_run("x", seed=0, config="{}", config_hash="", environment="{}", version="0")
    store.put_round(0, status="done")
    return tmp_path


def change(run: Path, *statements: str) -> None:
    store = Store(run / "store.duckdb")
    store._checked = True  # whatever version the statements before have made of it
    with store.write() as transaction:
        for statement in statements:
            transaction.execute(statement)


def asked(run: Path, command: str) -> str:
    before = (run / "store.duckdb").read_bytes()
    done = CliRunner().invoke(app, [command, str(run), "--json"])
    assert done.exit_code == 0, done.exception
    assert (run / "store.duckdb").read_bytes() == before
    return done.stdout


def test_branches_of_a_store(run: Path) -> None:
    assert json.loads(asked(run, "branches")) == []
    change(run, BRANCH)
    (branch,) = json.loads(asked(run, "branches"))
    assert (branch["branch"], branch["from_stage"], branch["detail"]) == ("b1", "judge", "another judge")


def test_branches_of_an_older_store(run: Path) -> None:
    change(run, BRANCH, "delete from schema_version where version > 4")
    assert [branch["branch"] for branch in json.loads(asked(run, "branches"))] == ["b1"]
    change(run, "drop table branches", "delete from schema_version where version > 1")
    assert json.loads(asked(run, "branches")) == []


def test_status_of_an_older_store_with_views_of_its_time(run: Path) -> None:
    view = "create or replace view round_summary as select round, 'M' || round as model, 0.5::double as mean_length from rounds"
    change(run, view, "delete from schema_version where version > 4")
    (report,) = json.loads(asked(run, "status"))
    assert report["run"] == "x"
    assert report["rounds"] == [{"round": 0, "model": "M0", "mean_length": 0.5}]
    shown = CliRunner().invoke(app, ["status", str(run)])
    assert shown.exit_code == 0 and "M0" in shown.stdout
