"""What is said of a run, from rows and progress alone; and looking at one that another process writes."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from selfalign import control
from selfalign.cli.watch import duration, heading, line, stage
from selfalign.errors import StoreError
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.store.store import Store
from selfalign.watch import (
    Committed,
    Doing,
    Look,
    State,
    Watcher,
    exit_code,
    happened,
    state_of,
    yields_of,
)
from selfalign.workspace import Workspace
from tests.store.rows import candidate, event, judgement, prompt

BEGAN = datetime(2026, 1, 2, 3, 4, 5)


def stage_row(round: int = 1, name: str = "generate", status: str = "done", **changes: Any) -> dict[str, Any]:
    row = {
        "round": round, "stage": name, "status": status, "attempt": 1, "started_at": BEGAN,
        "finished_at": None if status == "running" else BEGAN + timedelta(seconds=9), "seconds": 9.0,
        "rows_in": 8, "rows_out": 24, "detail": None,
    }  # fmt: skip
    return row | changes


def committed(
    *stages: dict[str, Any], done: int = 0, begun: int | None = None, events: Any = (), **config: Any
) -> Committed:
    """A run of two rounds of which ``done`` are done and ``begun`` have a row."""
    config = {"rounds": 2, "execution": {"approve": False}} | config
    rounds = [{"round": t, "status": "done" if t < done else "running"} for t in range(begun or done)]
    return Committed(
        run={"run": "made", "config": json.dumps(config)}, rounds=rounds, stages=stages, events=events
    )  # fmt: skip


@pytest.mark.parametrize(
    ("have", "pid", "working", "held", "state"),
    [
        (Committed(), 7, False, None, State.starting),
        (committed(stage_row(status="running"), begun=2), 7, True, None, State.running),
        (committed(stage_row(status="running"), begun=2), 7, True, "paused", State.running),
        (committed(stage_row(), begun=2), 7, False, "paused", State.paused),
        (committed(stage_row(), done=2), 7, False, "round 1 waits for approval", State.waiting),
        (committed(stage_row(status="failed", detail='{"error": "no"}'), begun=2), 7, False, None, State.running),
        (committed(stage_row(), done=3), None, False, None, State.finished),
        (committed(stage_row(), done=2), None, False, "round 1 waits for approval", State.waiting),
        (committed(stage_row(), done=2), None, False, None, State.stopped),
        (committed(stage_row(status="failed", detail='{"error": "no"}'), begun=2), None, False, "paused", State.failed),
        (committed(stage_row(status="failed", detail='{"error": ""}'), begun=2), None, False, None, State.stopped),
        (committed(stage_row(status="failed", detail='{"error": "143"}'), begun=2), None, False, None, State.stopped),
        (committed(stage_row(status="running"), begun=2), None, False, None, State.stopped),
        (committed(), None, False, None, State.stopped),
    ],
)  # fmt: skip
def test_where_a_run_stands(have: Committed, pid: int | None, working: bool, held: str | None, state: State) -> None:
    assert state_of(have, pid, working, held)[0] is state


def test_why_it_stands_there() -> None:
    empty = committed(stage_row(name="judge", status="empty", detail='{"error": "none of 20 is valid"}'), begun=2)
    assert state_of(empty, None, False, None) == (State.failed, "round 1 judge: none of 20 is valid")
    killed = committed(stage_row(status="running"), begun=2)
    assert state_of(killed, None, False, None)[1] == "round 1 generate was interrupted; the same command goes on"
    assert state_of(committed(stage_row(), begun=2), 7, True, "paused")[1] == "halts after this stage"
    back = {"last_at": BEGAN, "round": 1, "stage": None, "kind": "rolled_back", "message": "it got worse", "n": 1}
    assert state_of(committed(stage_row(0, "gate"), done=1, events=[back]), None, False, None) == (
        State.failed, "it got worse",
    )  # fmt: skip


def test_the_exit_status_is_the_runs() -> None:
    def ended(have: Committed) -> int:
        return exit_code(state_of(have, None, False, None)[0], have)

    assert ended(committed(stage_row(), done=3)) == 0
    assert ended(committed(stage_row(), done=2)) == 0, "a start that makes a round of several"
    assert ended(committed(stage_row(), done=1, begun=2)) == 1
    assert ended(committed(stage_row(status="failed", detail='{"error": "no"}'), begun=2)) == 1
    assert ended(committed(stage_row(status="empty", detail='{"error": "no"}'), begun=2)) == 2


def test_lines_of_rows_and_progress() -> None:
    doing = Doing(1, "generate", 83.4, Progress(192, 320, "answers", "146 tokens/s"), 41.2)
    assert stage(doing) == ("round 1 generate: 60 % (192/320 answers, 146 tokens/s, 0:01:23 so far, about 41 s left)")
    assert stage(Doing(1, "train", 5.0)) == "round 1 train: 5 s so far"
    loading = Doing(1, "train", 5.0, Progress(0, 0, "steps", "loading the model"))
    assert stage(loading) == "round 1 train: (loading the model, 5 s so far)"
    look = Look("made", State.running, pid=7, last=2, doing=doing)
    assert line(look) == f"made: running (pid 7, rounds 0 to 2); {stage(doing)}"
    assert heading(Look("made", State.failed, "no\x1b[2J\nroom", exit_code=1)).endswith("room; exit status 1")
    assert line(Look("made", State.failed, "no\x1b[2J\nroom", exit_code=1)) == (
        "made: failed: no\\x1b[2J room; exit status 1"
    )


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 59.4, 61, 3600 * 25)] == ["0 s", "59 s", "0:01:01", "1 day, 1:00:00"]


def test_yields_so_far() -> None:
    rows = [
        {"round": 0, "prompts": 0, "candidates": 0, "pairs": 4, "labels": 0, "rankings": 0},
        {"round": 1, "prompts": 80, "candidates": 320, "pairs": 36, "labels": 0, "rankings": 0},
    ]
    assert yields_of(rows, [{"round": 1, "votes": 320, "unparseable": 8}]) == (
        "round 1 so far: 80 prompts, 320 candidates, 36 pairs (0.45 a prompt), 2.5% of 320 votes unparseable"
    )
    assert yields_of(rows[:1], []) == ""


def test_the_last_events_are_stages_that_ended_and_notes_of_a_kind() -> None:
    noted = {
        "last_at": BEGAN + timedelta(seconds=5),
        "round": 1,
        "stage": "pair",
        "kind": "no_pair",
        "message": "tie",
        "n": 31,
    }
    stages = [
        stage_row(), stage_row(name="judge", status="failed", detail='{"error": "no"}'), stage_row(name="pair", status="running"),
    ]  # fmt: skip
    found = happened([noted], stages)
    assert [one.text for one in found] == [
        "round 1 no_pair: tie (the last of 31)", "round 1 generate done: 24 rows, 9 s", "round 1 judge failed: no, 9 s",
    ]  # fmt: skip
    assert len(happened([], [stage_row()] * 20)) == 5


# -- looking at a store ---------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "made")
    workspace.create()
    return workspace


def begin(workspace: Workspace) -> Store:
    store = Store(workspace.store_path)
    store.create()
    config = json.dumps({"rounds": 1, "execution": {"approve": False}})
    store.put_run("made", seed=1, config=config, config_hash="", environment="{}", version="0")
    return store


def test_a_run_from_its_first_moment_to_its_end(workspace: Workspace) -> None:
    watcher = Watcher(workspace)
    with workspace.lock():
        assert watcher.look().state is State.starting, "there is no store yet"
        store = begin(workspace)
        store.put_round(0, status="done", weights_hash="w0")
        store.put_round(1, status="running")
        store.insert([prompt("p1"), prompt("p2"), event("e1", kind="note", message="a word")])
        store.start_stage(1, "generate", "f" * 64)
        watcher = Watcher(workspace)
        look = watcher.look()
        assert (look.state, look.pid, look.exit_code) == (State.running, os.getpid(), None)
        assert look.doing is not None and (look.doing.round, look.doing.stage, look.doing.progress) == (
            1,
            "generate",
            None,
        )
        job = JobFolder(workspace.job_folder(1, "generate", "f" * 64))
        job.path.mkdir(parents=True)
        job.report(Progress(3, 12, "answers", "100 tokens/s", at=time.time() + 1))
        look = watcher.look()
        assert look.doing is not None and look.doing.percent == 25 and look.doing.left is not None
        control.pause(workspace)
        assert watcher.look().why == "halts after this stage"
        control.approve(workspace, 0)
        store.insert([candidate("c1", "p1"), judgement("j1"), judgement("j2", outcome="parse_error", score=None)])
        store.finish_stage(1, "generate", "f" * 64, rows_in=2, rows_out=12)
        look = Watcher(workspace).look()
        assert look.doing is None, "what a stage left behind is not that of the next one"
        assert look.yields == "round 1 so far: 2 prompts, 1 candidates, 50.0% of 2 votes unparseable"
        assert "round 1 note: a word" in [one.text for one in look.events]
        store.put_round(1, status="done", weights_hash="w1")
    look = watcher.look()
    assert (look.state, look.pid, look.exit_code) == (State.finished, None, 0)
    assert [row["model"] for row in look.summary] == ["M0", "M1"]


def test_progress_of_an_earlier_attempt_is_not_shown(workspace: Workspace) -> None:
    with workspace.lock():
        store = begin(workspace)
        job = JobFolder(workspace.job_folder(1, "train", "0" * 64))
        job.path.mkdir(parents=True)
        job.report(Progress(3, 12, "steps"))
        os.utime(job.path / "progress.json", (0, 0))
        store.start_stage(1, "train", "f" * 64)
        look = Watcher(workspace).look()
        assert look.doing is not None and look.doing.progress is None


def test_the_pace_of_a_second_attempt_is_its_own(workspace: Workspace) -> None:
    with workspace.lock():
        store = begin(workspace)
        for _ in range(2):
            store.start_stage(1, "train", "f" * 64)
        job = JobFolder(workspace.job_folder(1, "train", "f" * 64))
        job.path.mkdir(parents=True)
        lefts = []
        for done in (50, 75):
            job.report(Progress(done, 100, "steps", before=50, at=time.time() + 100))
            look = Watcher(workspace).look()
            assert look.doing is not None
            lefts.append(look.doing.left)
        assert lefts[0] is None, "nothing was done yet by this attempt"
        # 25 steps took about 100 s, which lie ahead of now here, and as many are left.
        assert lefts[1] == pytest.approx(200, abs=5)


def test_a_store_that_cannot_be_read_is_waited_for_while_somebody_is_at_work(workspace: Workspace) -> None:
    store = begin(workspace)
    watcher = Watcher(workspace)
    with workspace.lock():
        store.put_round(0, status="running")
        assert watcher.look().summary
        good = workspace.store_path.read_bytes()
        workspace.store_path.write_bytes(b"half a page")
        watcher._not_before = 0.0
        look = watcher.look()
        assert look.summary and "store.duckdb" in look.stale, "what was known is still shown"
        workspace.store_path.write_bytes(good)
        watcher._not_before = 0.0
        assert watcher.look().stale == ""
        workspace.store_path.write_bytes(b"half a page")
    with pytest.raises(StoreError, match=r"store\.duckdb"):
        watcher.look()
