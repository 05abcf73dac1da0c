"""The disk fills up at a given moment: one line, exit code 1, and the same command goes on once there is room.

One run goes through all moments, one after the other. MOMENTS=all tries every one (MOMENTS=8,9,12 those), EMBEDDED=1
has Prefect's own embedded server on the full disk too; by default the suite tries a few.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign.identity import hash_weights
from selfalign.space import folder_bytes
from selfalign.store.store import read_sql
from tests.e2e.project import Project
from tests.e2e.torture import TABLES, kill_tree

#: What appears or changes in the workspace when the moment has come -> bytes left free from then on.
MOMENTS = [
    (".selfalign/jobs/round-0-answer-*", 0),
    (".selfalign/jobs/round-0-answer-*/in/prompts.arrow", 4096),
    (".selfalign/jobs/round-0-answer-*/progress.json", 65536),
    (".selfalign/jobs/round-1-generate-*", 16384),
    (".selfalign/jobs/round-1-generate-*/progress.json", 0),
    (".selfalign/jobs/round-1-judge-*/job.json", 0),
    (".selfalign/jobs/round-1-judge-*/progress.json", 8192),
    (".selfalign/jobs/round-1-train-*", 0),
    (".selfalign/jobs/round-1-train-*/scratch", 4096),
    (".selfalign/jobs/round-1-train-*/progress.json", 60000),
    ("checkpoints/.round-1.partial", 0),
    ("checkpoints/.round-1.partial/model.safetensors", 4096),
    ("checkpoints/round-1", 0),
    (".selfalign/jobs/round-1-answer-*/job.json", 32768),
    (".selfalign/jobs/round-1-log_ratio-*", 0),
    (".selfalign/jobs/round-1-log_ratio-*/progress.json", 0),
]
#: A batch, and the weights.
FEW = (4, 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def tables(workspace: Path) -> dict[str, list[dict[str, object]]]:
    return {
        name: read_sql(workspace / "store.duckdb", f"select * from {name} order by all").to_pylist() for name in TABLES
    }


def changed_since(folder: Path, pattern: str, moment: float) -> bool:
    try:
        return any(path.stat().st_mtime >= moment for path in folder.glob(pattern))
    except OSError:
        return False


def fill(folder: Path, left: int) -> Path:
    """A file that takes all but ``left`` bytes at once."""
    filler = folder / "filler"
    with filler.open("wb") as handle:
        for _ in range(100):
            usage = os.statvfs(folder)
            size = usage.f_bavail * usage.f_frsize - left
            try:
                if size > 0:
                    os.posix_fallocate(handle.fileno(), 0, size)
                return filler
            except OSError:
                continue  # the run wrote in between
    pytest.fail("the disk could not be filled")


def chosen_moments() -> list[tuple[str, int]]:
    wanted = os.environ.get("MOMENTS", ",".join(map(str, FEW)))
    return MOMENTS if wanted == "all" else [MOMENTS[int(number)] for number in wanted.split(",")]


def test_a_disk_that_fills_up_at_any_moment_costs_nothing_but_a_new_start(
    tmp_path: Path, tiny_model: Path, small_disk: Path, prefect_api: str
) -> None:
    moments = chosen_moments()
    calm = Project(tmp_path / "calm", tiny_model, prefect_api)
    calm.write(rounds=1)
    planned = json.loads(calm.selfalign("plan", "run.yaml", "--json").stdout)
    undisturbed = calm.start("run", "run.yaml")
    project = Project(tmp_path / "project", tiny_model, None if os.environ.get("EMBEDDED") else prefect_api)
    workspace = small_disk / "run"
    project.write(rounds=1, workspace=str(workspace))
    met = 0
    try:
        for name, left in moments:
            met += disturbed(project, workspace, name, left)
        assert undisturbed.wait(300) == 0, (calm.folder / "start.log").read_text()
    finally:
        kill_tree(undisturbed)
    real, kept = folder_bytes(calm.workspace), sum(line["kept"] for line in planned["disk"])
    assert 0.5 * kept < real < 1.05 * kept, f"planned {kept}, in fact {real}"
    assert met >= len(moments) / 2, "most moments must have been met, or this shows nothing"
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    expected = tables(calm.workspace)
    for name, rows in tables(workspace).items():
        assert rows == expected[name], name
    assert hash_weights(workspace / "checkpoints/round-1") == hash_weights(calm.workspace / "checkpoints/round-1")
    assert not list(workspace.rglob("*.partial"))
    print(f"{met} of {len(moments)} moments met, tables equal")


def disturbed(project: Project, workspace: Path, name: str, left: int) -> bool:
    """Start the run, fill the disk when ``name`` appears, and check how it ended; False where it came to its end."""
    log = project.folder / "start.log"
    log.unlink(missing_ok=True)
    started = time.time()
    process = project.start("run", "run.yaml")
    try:
        while process.poll() is None and not changed_since(workspace, name, started):
            time.sleep(0.002)
        filler = fill(workspace.parent, left)
        try:
            code = process.wait(180)
        finally:
            filler.unlink()
    finally:
        kill_tree(process)
    said = log.read_text()
    where = f"{name}, {left} bytes left: exit code {code}\n{said}"
    if code == 0:
        print(f"not met: {name}")
        return False
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 1, where
    assert len(errors) == 1, where
    assert "disk is full" in errors[0] and "free" in errors[0], where
    assert "Traceback" not in said, where
    assert project.selfalign("status", str(workspace)).returncode == 0, where
    print(f"met: {name}, {left} left: {errors[0][:160]}")
    return True
