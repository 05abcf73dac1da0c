"""Runs a stage process and commits what it hands over, batch by batch."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.errors import StageFailed
from selfalign.progress import Reporter
from selfalign.stages.jobs import JobFolder
from selfalign.store.store import Store
from selfalign.workspace import Workspace

_POLL_S = 0.1
#: Called after each committed batch with its tables; may raise to stop the stage.
BatchHook = Callable[[Mapping[str, pa.Table]], None]


def collect(folder: JobFolder, store: Store, hook: BatchHook | None = None) -> int:
    """Commit every finished batch in ``folder``, each in one transaction; returns the number of new rows."""
    new = 0
    for path, tables in folder.collect():
        with store.write() as transaction:
            for name, table in tables.items():
                new += transaction.insert_arrow(name, table)
        _forget(path)
        if hook:
            hook(tables)
    return new


def supervise(
    folder: JobFolder,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Sequence[Any]],
    *,
    workspace: Workspace,
    store: Store,
    reporter: Reporter,
    label: str,
    hook: BatchHook | None = None,
    timeout_s: float | None = None,
) -> int:
    """Start the process for ``spec``, commit its batches as they come, and return the number of new rows.

    Batches left by an earlier attempt must have been collected already, since ``inputs`` and the
    spec's "done" depend on them.

    Raises:
        SelfAlignError: what the process stopped with, as its own class; StageFailed if it just died or
            took longer than ``timeout_s``.
    """
    folder.prepare(spec, inputs)
    log = workspace.logs / f"{folder.path.name}.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "selfalign.stages.worker", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    workspace.record_process(process.pid, label)
    new = 0
    deadline = time.monotonic() + timeout_s if timeout_s else math.inf
    try:
        while True:
            ended = process.poll() is not None
            new += collect(folder, store, hook)
            if progress := folder.progress():
                reporter.update(progress)
            if ended:
                break
            if time.monotonic() > deadline:
                raise StageFailed(f"{label}: not done in execution.stage_timeout_seconds={timeout_s:g}; see {log}")
            time.sleep(_POLL_S)
    except BaseException:
        _kill_group(process)
        raise
    if process.returncode != 0:
        raise folder.error() or StageFailed(_died(label, process.returncode, log))
    folder.remove()
    return new


def _environment() -> dict[str, str]:
    """The stage must not call out, and must not fight its own threads."""
    return {
        **os.environ,
        "SELFALIGN_PARENT": str(os.getpid()),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _died(label: str, code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return f"{label}: the process was killed (out of memory?); lower the batch sizes or free memory, then run again"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{label}: the process ended with {how}; see {log}, then run again"


def _forget(batch: Path) -> None:
    # Hidden first: a kill between two unlinks must not leave a batch that looks whole.
    hidden = batch.with_name(f".done-{batch.name}")
    batch.rename(hidden)
    for file in hidden.iterdir():
        file.unlink()
    hidden.rmdir()
