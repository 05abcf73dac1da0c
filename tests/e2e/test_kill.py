"""kill -9 at every named moment; the result must not show it."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest

from selfalign.failpoints import NAMES, VARIABLE
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
