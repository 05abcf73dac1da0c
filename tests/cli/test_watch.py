"""``status --watch`` as a person or a script starts it, on runs that nobody is at work on."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from selfalign.store.store import Store
from selfalign.workspace import Workspace


@pytest.fixture
def finished(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "runs" / "made")
    workspace.create()
    store = Store(workspace.store_path)
    store.create()
    store.put_run("made", seed=1, config='{"rounds": 1}', config_hash="", environment="{}", version="0")
    for round in (0, 1):
        store.put_round(round, weights_hash=f"w{round}", status="done")
        store.start_stage(round, "gate", "f" * 64)
        store.finish_stage(round, "gate", "f" * 64, rows_in=1, rows_out=1)
    return workspace


def status(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "selfalign", "status", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_run_that_has_ended_is_one_line_and_its_exit_status(finished: Workspace) -> None:
    before = finished.store_path.read_bytes()
    done = status(finished.path.parent.parent, "made", "--watch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "made: finished (rounds 0 to 1); exit status 0\n"
    assert finished.store_path.read_bytes() == before
    Store(finished.store_path).fail_stage(
        1, "gate", "f" * 64, status="empty", detail={"error": "nothing \x1b[31mat all"}
    )
    done = status(finished.path.parent.parent, "made", "--watch")
    assert done.returncode == 2
    assert done.stdout == "made: failed (rounds 0 to 1): round 1 gate: nothing \\x1b[31mat all; exit status 2\n"


def test_on_a_terminal_it_is_the_table_of_rounds_and_what_happened(finished: Workspace) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    watching = subprocess.Popen(
        [sys.executable, "-m", "selfalign", "status", str(finished.path), "--watch"],
        stdout=theirs, stdin=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert watching.wait(60) == 0
    text = shown.decode()
    assert "\x1b[" in text and "M1" in text and "exit status 0" in text
    assert "round 1 gate done: 1 rows" in text


def test_what_cannot_be_watched_is_one_line(finished: Workspace, tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir()
    for arguments, words in (
        (("nowhere", "--watch"), "no run here"),
        (("empty", "--watch"), "no run here"),
        (("--watch",), "name the run"),
        (("made", "--watch", "--json"), "contradict"),
    ):
        done = status(tmp_path, *arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and words in done.stderr and done.stderr.count("\n") == 1
    assert json.loads(status(tmp_path, "made", "--json").stdout)[0]["run"] == "made"
