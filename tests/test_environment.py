from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from selfalign import environment as module
from selfalign.environment import environment, git_state, gpu_list, start_event
from selfalign.store.store import Store
from selfalign.types import Event


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "work")
    (folder / "a.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_everything_is_there_and_is_json(tmp_path: Path) -> None:
    found = json.loads(json.dumps(environment(tmp_path, {"seed": 3})))
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["duckdb"]
    assert found["cpu"]["usable"] >= 1 and found["memory_bytes"] > 0
    assert found["command"] == sys.argv
    assert found["config"] == {"seed": 3}
    assert {"gpus", "git", "platform", "host"} <= set(found)


def test_git_state(project: Path) -> None:
    clean = git_state(project)
    assert clean == {
        "commit": git(project, "rev-parse", "HEAD"), "branch": "work", "dirty": False, "diff_hash": None,
        "untracked": False,
    }  # fmt: skip
    (project / "b.txt").write_text("new")
    untracked = git_state(project)
    assert untracked is not None and (untracked["dirty"], untracked["untracked"]) == (False, True)
    hashes = []
    for text in ("two\n", "three\n", "two\n"):
        (project / "a.txt").write_text(text)
        state = git_state(project)
        assert state is not None and state["dirty"] is True
        hashes.append(state["diff_hash"])
    assert hashes[0] == hashes[2] != hashes[1]
    git(project, "checkout", "-q", "--detach", "-f")
    detached = git_state(project)
    assert detached is not None and detached["branch"] is None


def test_no_git_is_null_and_never_an_error(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert git_state(empty) is None
    git(empty, "init", "-q")
    assert git_state(empty) is None, "a project without a commit"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(project) is None
    assert gpu_list() is None
    assert environment(project)["git"] is None


def test_a_project_from_elsewhere_starts_no_program(project: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    (project / ".gitattributes").write_text("*.txt diff=evil\n")
    for key in ("core.fsmonitor", "diff.external", "diff.evil.textconv", "diff.evil.command", "core.pager"):
        git(project, "config", key, str(trap))
    (project / "a.txt").write_text("changed\n")
    assert git_state(project) is not None
    assert not (tmp_path / "ran").exists()


def test_gpus_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho '0, NVIDIA H200, 143771, 570.1, GPU-1, 9.0'\necho '1, NVIDIA H200, 143771, 570.1, GPU-2, 9.0'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    gpus = gpu_list()
    assert gpus is not None and [gpu["uuid"] for gpu in gpus] == ["GPU-1", "GPU-2"]
    assert (gpus[0]["name"], gpus[0]["memory_mib"], gpus[0]["driver"]) == ("NVIDIA H200", "143771", "570.1")


def test_a_program_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(module, "_SMI_TIMEOUT_S", 0.2)
    started = time.monotonic()
    assert gpu_list() is None
    assert time.monotonic() - started < 20


def test_secrets_of_the_environment_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment(tmp_path)
    assert "hf_very_secret" not in json.dumps(found)
    assert found["variables"]["OMP_NUM_THREADS"] == "3"


def test_each_start_is_an_event_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    store.create()
    first = start_event({"host": "a", "python": "3"}, datetime(2026, 1, 1, tzinfo=UTC), 7)
    again = start_event({"host": "b", "python": "3"}, datetime(2026, 1, 2, tzinfo=UTC), 7)
    other = start_event({"host": "a", "python": "3"}, datetime(2026, 1, 1, tzinfo=UTC), 8)
    store.insert([first, again, other])
    rows = store.rows(Event, "kind = 'start'")
    assert len(rows) == 3
    assert {json.loads(row.detail)["host"] for row in rows} == {"a", "b"}


def test_it_loads_no_model_library() -> None:
    code = (
        "import sys; from pathlib import Path; from selfalign.environment import environment; environment(Path('.'));"
        "print([m for m in ('prefect', 'torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
