"""The command writes where it is told, prints what scripts read, and says what is wrong in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.report.made import make_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("report")
    Store(folder / "empty.duckdb").create()
    return make_workspace(folder / "runs", folder / "empty.duckdb", rounds=1)


def report(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "selfalign", "report", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_report_lies_in_its_run(workspace: Workspace) -> None:
    done = report(workspace.path.parent.parent, "made")
    assert done.stdout == "runs/made/report.html: 1.0 MB; open it in a browser\n", done.stderr
    assert "<title>made – report</title>" in (workspace.path / "report.html").read_text(encoding="utf-8")


def test_several_runs_lie_in_this_folder_and_json_has_the_figures(workspace: Workspace, tmp_path: Path) -> None:
    done = report(tmp_path, str(workspace.path), str(workspace.path), "--json", "--output", "both.html")
    labels = [run["label"] for run in json.loads(done.stdout)]
    assert labels == [f"made ({workspace.path})"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["both.html"]


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    done = report(tmp_path, "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: nowhere: no run here (no store.duckdb); 'selfalign run CONFIG' makes one\n"
