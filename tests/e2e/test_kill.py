"""kill -9 of the whole process tree, again and again; the result must not show it.

KILLS sets how many (4 by default, for the suite's time).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from selfalign.identity import hash_weights
from tests.e2e.project import Project

TABLES = ("prompts", "candidates", "judgements", "pairs", "evaluations")
KILLS = int(os.environ.get("KILLS", "4"))


def tables(project: Project) -> dict[str, list[dict[str, object]]]:
    return {name: project.sql(f"select * from {name} order by all") for name in TABLES}


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """kill -9 for the run and all its descendants at once, stage processes in their own session included."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
    process.wait()


def test_random_kills_leave_no_trace(tmp_path: Path, tiny_model: Path, prefect_api: str) -> None:
    calm, killed = (Project(tmp_path / name, tiny_model, prefect_api) for name in ("calm", "killed"))
    calm.write()
    started = time.monotonic()
    done = calm.selfalign("run", "run.yaml")
    whole = time.monotonic() - started
    assert done.returncode == 0, done.stderr

    killed.write()
    generator = random.Random(1)
    kills = 0
    for _ in range(3 * KILLS):
        process = killed.start("run", "run.yaml")
        try:
            # Late enough that work was done since the last kill, early enough that runs are cut everywhere.
            process.wait(timeout=(0.1 + generator.uniform(0, 1.5) / KILLS) * whole)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            kills += 1
        else:
            assert process.returncode == 0, (killed.folder / "start.log").read_text()[-3000:]
            break
        if kills == KILLS:
            break
    final = killed.selfalign("run", "run.yaml")
    assert final.returncode == 0, final.stderr
    assert kills >= 1
    expected = tables(calm)
    for name, rows in tables(killed).items():
        assert rows == expected[name], name
    for round in (1, 2):
        folder = f"checkpoints/round-{round}"
        assert hash_weights(killed.workspace / folder) == hash_weights(calm.workspace / folder)
    print(f"{kills} kills, tables equal")


def test_a_killed_run_leaves_no_process_behind(project: Project) -> None:
    project.write(rounds=1)
    process = project.start("run", "run.yaml")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((project.workspace / ".selfalign/jobs").glob("*/progress.json")):
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()  # the run alone: its stage process must notice by itself
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_can_be_resumed(project: Project, number: int) -> None:
    project.write(rounds=1)
    process = project.start("run", "run.yaml")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((project.workspace / ".selfalign/jobs").glob("*/progress.json")):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) != 0
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert len(project.sql("select * from round_summary")) == 2
