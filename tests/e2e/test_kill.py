"""kill -9 at every named moment; the result must not show it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from selfalign.failpoints import NAMES, VARIABLE
from selfalign.reviews import append, make_review
from selfalign.types import ReviewDecision
from tests.e2e import warm
from tests.e2e.project import Project
from tests.e2e.torture import batches_begun, differences

#: Named moments of a whole run's first start, with which of several such moments is meant: every name once.
#: Those of a change of config are in test_history.py.
MOMENTS = (
    "store_made", "run_recorded", "round_begun", "stage_started", "job_prepared", "batch_begun:2", "batch_written:2",
    "batch_renamed:2", "batch_inserted:2", "batch_committed:2", "batch_hidden:2", "stage_worked", "stage_finished:2",
    "round_ended", "state_saved", "state_marked", "weights_written", "manifest_written",
    "checkpoint_synced", "checkpoint_renamed", "round_recorded", "file_written:4",
)  # fmt: skip
OTHERS = {"branch_moved", "branch_made", "rows_taken"}


def test_every_moment_has_its_kill() -> None:
    assert {moment.partition(":")[0] for moment in MOMENTS} | OTHERS == set(NAMES)


def test_a_kill_at_every_named_moment_leaves_no_trace(finished: Project, project: Project) -> None:
    project.write()
    for moment in MOMENTS:
        project.extra[VARIABLE] = moment
        stopped = project.selfalign("run", "run.yaml")
        assert stopped.returncode != 0, f"{moment} was not reached"
    project.extra.clear()
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert differences(finished, project) == []
    assert batches_begun(project) - batches_begun(finished) <= len(MOMENTS)


def test_a_round_that_honours_reviews_is_the_same_after_kills(project: Project, tmp_path: Path) -> None:
    settings = {"policy": {"data": "all"}, "pair": {"id": "max_min"}}
    project.write(rounds=1, **settings)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    flipped, rejected, *_ = (row["pair_id"] for row in project.sql("select pair_id from pairs order by pair_id"))
    wanted: dict[str, ReviewDecision] = {flipped: "flip", rejected: "reject"}
    for pair_id, decision in wanted.items():
        append(project.workspace / "reviews.jsonl", make_review(pair_id, 1, decision, "", "me", datetime.now(UTC)))
    shutil.copytree(project.folder, tmp_path / "killed")
    killed = Project(tmp_path / "killed", project.model, project.api)
    for one in (project, killed):
        one.write(rounds=2, **settings)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr

    # Round 2 begins with prompts, generate and judge.
    for moment, stage in (("stage_started:4", "pair"), ("weights_written", "train")):
        killed.extra[VARIABLE] = moment
        assert killed.selfalign("run", "run.yaml").returncode != 0, f"{moment} was not reached"
        assert killed.sql("select round, stage from stages order by started_at desc limit 1") == [
            {"round": 2, "stage": stage}
        ]
    killed.extra.clear()
    done = killed.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert differences(project, killed) == []
    honoured = killed.sql("select pair_id, decision from overrides where round = 2 and from_round = 1")
    assert {row["pair_id"]: row["decision"] for row in honoured} == wanted


def wait_for_work(project: Project, process: subprocess.Popen[bytes], started: float) -> None:
    """Return once a stage process of this start has something done."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = (project.workspace / ".selfalign/jobs").glob("*/progress.json")
        if any(file.stat().st_mtime >= started for file in files):
            return
        assert process.poll() is None
        time.sleep(0.02)
    pytest.fail("no stage has begun")


def test_a_killed_run_leaves_no_process_behind_and_a_polite_stop_can_be_resumed(project: Project) -> None:
    project.write(rounds=1)
    project.extra[warm.VARIABLE] = ""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        started = time.time()
        process = project.start("run", "run.yaml")
        wait_for_work(project, process, started)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        # The run alone: its stage process and the one that forked it must notice by themselves.
        process.send_signal(number)
        assert process.wait(60) != 0, number
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, number
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert len(project.sql("select * from round_summary")) == 2
