"""What a power cut can leave: the last file cut short. It is made again, or named; never believed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selfalign.failpoints import VARIABLE
from tests.e2e.project import Project
from tests.e2e.torture import differences

Copy = Callable[..., Project]


def cut(path: Path, share: float = 0.6) -> None:
    assert path.stat().st_size > 1, path
    os.truncate(path, int(path.stat().st_size * share))


def stop_at(project: Project, moment: str) -> None:
    project.extra[VARIABLE] = moment
    assert project.selfalign("run", "run.yaml").returncode != 0, f"{moment} was not reached"
    project.extra.clear()


def newest(project: Project, pattern: str) -> Path:
    return max((project.workspace / ".selfalign/jobs").glob(pattern), key=lambda path: path.stat().st_mtime)


def test_every_last_file_cut_short_is_made_again(finished: Project, project: Project) -> None:
    """One run, stopped and damaged in one place after the other."""
    project.write()
    stop_at(project, "batch_inserted:2")
    cut(newest(project, "*/out/0*/candidates.arrow"))
    stop_at(project, "batch_inserted:1")
    cut(newest(project, "*/out/0*/*.arrow"), 0.0)
    for name in ("processes.json", "weights.json", "preflight.json"):
        (project.workspace / ".selfalign" / name).write_text('{"half')
    stop_at(project, "state_marked:2")
    cut(newest(project, "*-train-*/scratch/checkpoints/*/optimizer.pt"))
    stop_at(project, "state_marked:1")
    for file in (newest(project, "*-train-*/scratch/guards-*.json"), newest(project, "../logprobs/logprobs-*")):
        cut(file)
    stop_at(project, "checkpoint_renamed")
    cut(project.workspace / "checkpoints/round-1/model.safetensors", 0.9)
    (project.workspace / "config.yaml").write_text("name: ti")
    stop_at(project, "round_recorded")
    store = project.workspace / "store.duckdb"
    # Commits that are only in the log, as a kill leaves them, and the log cut in its middle: it loses its last only.
    subprocess.run([sys.executable, "-c", _COMMIT_AND_DIE, str(store)], check=False)
    log = store.with_name("store.duckdb.wal")
    assert log.stat().st_size > 1000
    cut(log)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert differences(finished, project) == []


_COMMIT_AND_DIE = """
import os, sys, duckdb
store = duckdb.connect(sys.argv[1])
for number in range(50):
    store.execute("insert into events values (?, 1, 'x', 'note', null, 'm', '{}', now()::timestamp)", [f"e{number}"])
os._exit(9)
"""


def test_a_store_with_its_head_overwritten_is_refused_and_kept(copy: Copy) -> None:
    project = copy()
    store = project.workspace / "store.duckdb"
    with store.open("r+b") as handle:
        handle.seek(0)
        handle.write(b"\x00" * 4096)
    before = store.read_bytes()
    refused = project.selfalign("run", "run.yaml")
    assert refused.returncode == 2
    assert refused.stderr.count("error: ") == 1
    assert "Traceback" not in refused.stderr
    assert store.read_bytes() == before


def test_a_checkpoint_that_changed_stops_the_run(copy: Copy) -> None:
    project = copy()
    weights = project.workspace / "checkpoints/round-2/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 0xFF
    weights.write_bytes(data)
    stopped = project.selfalign("run", "run.yaml", "--set", "rounds=3")
    assert stopped.returncode == 1
    assert "not the weights that made M2" in stopped.stderr
    assert "--from-round 1" in stopped.stderr
    mended = project.selfalign("resume", "runs/tiny", "--from-round", "1")
    assert mended.returncode == 0, mended.stderr


def test_the_lock_names_its_holder_and_a_lost_one_stops_the_run_before_it_writes_on(
    finished: Project, project: Project
) -> None:
    project.write()
    process = project.start("run", "run.yaml")
    lock = project.workspace / ".selfalign/lock"
    while process.poll() is None and not list((project.workspace / ".selfalign/jobs").glob("*/job.json")):
        pass
    second = project.selfalign("run", "run.yaml")
    assert second.returncode == 2
    assert f"pid {process.pid}" in second.stderr
    assert process.poll() is None
    lock.unlink()
    assert process.wait(120) == 1
    log = (project.folder / "start.log").read_text()
    assert "lock was removed or replaced" in log
    assert "Traceback" not in log
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert differences(finished, project) == []
    # A lock file that a start left behind holds nobody up: the kernel freed the lock.
    assert lock.read_text().startswith("pid ")
    assert project.selfalign("run", "run.yaml").returncode == 0


@pytest.mark.parametrize("command", [("status",), ("sql", "select 1")])
def test_looking_at_a_store_of_an_older_version_says_what_to_do(copy: Copy, command: tuple[str, ...]) -> None:
    import duckdb

    project = copy()
    with duckdb.connect(str(project.workspace / "store.duckdb")) as store:
        newest_version = store.execute("select max(version) from schema_version").fetchall()[0][0]
        store.execute("insert into schema_version (version) values (?)", [newest_version + 1])
    looked = project.selfalign(command[0], "runs/tiny", *command[1:])
    if command[0] == "status":
        assert looked.returncode == 2
        assert "upgrade selfalign" in looked.stderr
    else:
        assert looked.returncode == 0, "plain SQL works on any version"
