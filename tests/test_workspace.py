from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from selfalign.durable import write_atomic
from selfalign.errors import ConfigError, StoreError, WorkspaceBusy
from selfalign.workspace import Workspace

HOLD = "import sys,time;from pathlib import Path;from selfalign.workspace import Workspace\nw=Workspace(Path(sys.argv[1]))\nwith w.lock():\n print('held',flush=True);time.sleep(60)"


def test_a_second_start_is_told_who_holds_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.create()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert workspace.holder() == holder.pid
        with pytest.raises(WorkspaceBusy, match=f"pid {holder.pid}"), workspace.lock():
            pass
        holder.kill()
        holder.wait()
    with workspace.lock():  # the kernel frees a dead holder's lock
        assert workspace.holder() == os.getpid()
    assert workspace.holder() is None


def test_only_recorded_processes_with_the_same_start_time_are_ended(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.create()
    with subprocess.Popen(["sleep", "60"]) as orphan, subprocess.Popen(["sleep", "60"]) as stranger:
        workspace.record_process(orphan.pid, "a stage")
        workspace.record_process(stranger.pid, "another")
        records = workspace._process_records()
        records[1]["started"] -= 100
        write_atomic(workspace._processes_path, __import__("json").dumps(records))
        assert workspace.reap() == [f"a stage (pid {orphan.pid})"]
        assert not psutil.pid_exists(orphan.pid)
        assert psutil.pid_exists(stranger.pid)
        stranger.kill()
    assert workspace.reap() == []


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run here"):
        Workspace.existing(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        Workspace(tmp_path / "file").create()
