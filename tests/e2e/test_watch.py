"""``status --watch`` beside a real run: it sees every stage, never holds it up, and ends as it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from itertools import pairwise

from selfalign.rounds import STAGES
from selfalign.workspace import Workspace
from tests.e2e.project import Project


def test_a_run_is_watched_from_beginning_to_end(project: Project) -> None:
    # Most stages of the tiny model take less than the time between two looks; this training takes seconds.
    project.write(
        rounds=1, train={"id": "dpo", "learning_rate": 1e-4, "batch_size": 2, "micro_batch_size": 2, "epochs": 60}
    )
    running = project.start("run", "run.yaml")
    watching: list[subprocess.Popen[str]] = []
    try:
        while Workspace(project.workspace).holder() is None:
            assert running.poll() is None
            time.sleep(0.05)
        command = [sys.executable, "-m", "selfalign", "status", "tiny", "--watch", "--every", "0.1"]
        for _ in range(2):
            watching.append(
                subprocess.Popen(
                    command, cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True,
                    # A background job's children inherit that SIGINT is ignored.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
                )
            )  # fmt: skip
        stays, leaves = watching
        assert leaves.stdout is not None
        assert leaves.stdout.readline().startswith("tiny: ")
        leaves.send_signal(signal.SIGINT)
        assert leaves.wait(60) == 0
        assert running.poll() is None, "leaving the view leaves the run alone"
        lines = stays.communicate(timeout=600)[0].splitlines()
        assert running.wait(60) == 0, (project.folder / "start.log").read_text()
    finally:
        for process in (running, *watching):
            process.kill()
    assert stays.returncode == 0
    assert lines[-1] == "tiny: finished (rounds 0 to 1); exit status 0"
    assert all(line.startswith("tiny: ") and line.isprintable() for line in lines), "no control codes"
    seen = {found[1] for line in lines if (found := re.search(r"; round \d (\w+):", line))}
    assert "train" in seen and seen <= set(STAGES), lines
    assert all(before != after for before, after in pairwise(lines)), "a line a change"
