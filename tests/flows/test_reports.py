"""A report may fail or take its time: the run hears of it, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import reports as module
from flows.reports import Reports
from selfalign.config import validate_config
from selfalign.errors import GateStopped
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.workspace import Workspace


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does other work takes its time."""
    monkeypatch.setattr(module, "_PATIENCE_S", 180.0)


def make_context(folder: Path, **execution: Any) -> tuple[RunContext, Notes]:
    workspace, notes = Workspace(folder / "run"), Notes()
    workspace.create()
    store = Store(workspace.store_path)
    store.create()
    config = validate_config({"name": "x", "execution": execution}, "test")
    return RunContext(config, workspace, store, notes), notes


def test_updates_are_written_one_after_another(tmp_path: Path) -> None:
    context, notes = make_context(tmp_path)
    with Reports(context) as reports:
        reports.update()
        context.store.put_round(0, status="done")
        reports.update()
        assert reports.path.exists() is False, "nobody waits for a report while rounds are made"
    assert "round 0 is done" in reports.path.read_text(encoding="utf-8")
    assert notes.said == []


def test_a_report_that_fails_is_a_note(tmp_path: Path) -> None:
    context, notes = make_context(tmp_path)
    context.workspace.store_path.write_text("no database")
    with Reports(context) as reports:
        reports.update()
    (said,) = notes.said
    assert said.startswith("the report was not written (error: ")
    assert said.endswith("the run goes on without it")


def test_a_run_that_a_gate_stops_is_reported(tmp_path: Path) -> None:
    context, _ = make_context(tmp_path)
    with pytest.raises(GateStopped), Reports(context) as reports:
        raise GateStopped("no further")
    assert reports.path.exists()


def test_haste_is_not_held_up(tmp_path: Path) -> None:
    context, _ = make_context(tmp_path)
    with pytest.raises(KeyboardInterrupt), Reports(context) as reports:
        raise KeyboardInterrupt
    assert not reports.path.exists()


def test_a_run_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    context, notes = make_context(tmp_path)
    with Reports(context) as reports:
        reports.update()
    assert notes.said == [f"{reports.path} is still being written"]


def test_no_report_where_none_is_wanted(tmp_path: Path) -> None:
    context, notes = make_context(tmp_path, report=False)
    with Reports(context) as reports:
        reports.update()
    assert not reports.path.exists()
    assert notes.said == []
