"""Runs a stage process and commits what it hands over, batch by batch."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.errors import StageDied, StageFailed
from selfalign.failpoints import reach
from selfalign.space import EXIT_DISK_FULL, disk_full
from selfalign.stages import loads
from selfalign.stages.context import RunContext
from selfalign.stages.jobs import JobFolder
from selfalign.stages.launch import StageProcess

#: Soon after its start a stage is looked at often: a short one is not to be waited for longer than it takes.
_FIRST_POLL_S, _POLL_S, _POLL_GROWTH = 0.01, 0.1, 1.2
#: Called after each committed batch with its tables; may raise to stop the stage.
BatchHook = Callable[[Mapping[str, pa.Table]], None]


def collect(folder: JobFolder, context: RunContext, hook: BatchHook | None = None) -> int:
    """Commit every finished batch in ``folder``, each in one transaction; returns the number of new rows.

    Raises:
        WorkspaceBusy: the workspace's lock was lost, so that another run may write here by now.
    """
    new = 0
    for path, tables in folder.collect():
        context.workspace.check_held()
        with context.store.write() as transaction:
            for name, table in tables.items():
                new += transaction.insert_arrow(name, table)
            reach("batch_inserted")
        reach("batch_committed")
        _forget(path)
        if hook:
            hook(tables)
    return new


def supervise(
    folder: JobFolder,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Sequence[Any]],
    *,
    context: RunContext,
    label: str,
    hook: BatchHook | None = None,
) -> int:
    """Start the process for ``spec``, commit its batches as they come, and return the number of new rows.

    Batches left by an earlier attempt must have been collected already, since ``inputs`` and the
    spec's "done" depend on them.

    Raises:
        SelfAlignError: what the process stopped with, as its own class; StageDied if it just died or
            took longer than ``execution.stage_timeout_seconds``; StageFailed if ``context.stop`` was set.
    """
    folder.prepare(spec, inputs)
    log = context.workspace.stage_log(folder.path)
    process = context.launcher.start(folder.path, log, _environment(), loads.of_job(spec))
    context.workspace.record_process(process.pid, label)
    new = _attend(folder, process, log, context, label, lambda: collect(folder, context, hook))
    reach("stage_worked")
    return new


def carry_out(
    folder: JobFolder, spec: Mapping[str, Any], inputs: Mapping[str, Sequence[Any]], *, context: RunContext, label: str
) -> list[dict[str, pa.Table]]:
    """As :func:`supervise` for a run that is only looked at: the batches are given back, in order, and not committed.

    ``folder`` is the caller's, outside the workspace, of which nothing is touched.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.prepare(spec, inputs)
    batches: list[dict[str, pa.Table]] = []

    def take() -> int:
        before = len(batches)
        for path, tables in folder.collect():
            batches.append(tables)
            _forget(path)
        return len(batches) - before

    process = context.launcher.start(folder.path, folder.log, _environment(), loads.of_job(spec))
    _attend(folder, process, folder.log, context, label, take)
    return batches


def _attend(
    folder: JobFolder, process: StageProcess, log: Path, context: RunContext, label: str, take: Callable[[], int]
) -> int:
    """Wait for the process, ``take`` what it hands over meanwhile; returns the sum of what ``take`` returned."""
    taken = 0
    limit = context.config.execution.stage_timeout_seconds or math.inf
    deadline, wait = time.monotonic() + limit, _FIRST_POLL_S
    try:
        while (code := process.poll()) is None:
            taken += take()
            if progress := folder.progress():
                context.reporter.update(progress)
            if time.monotonic() > deadline:
                raise StageDied(f"{label}: not done in execution.stage_timeout_seconds={limit:g}; see {log}")
            if context.stop.wait(wait):
                raise StageFailed(f"{label}: stopped")
            wait = min(wait * _POLL_GROWTH, _POLL_S)
        taken += take()  # what it handed over last
    except BaseException:
        process.kill()
        raise
    if code != 0:
        if code == EXIT_DISK_FULL and folder.error() is None:
            raise disk_full(folder.path)
        raise folder.error() or StageDied(_died(label, code, log))
    return taken


def _environment() -> dict[str, str]:
    """What differs from our own: the stage must not call out, and must not fight its own threads."""
    return {
        "SELFALIGN_PARENT": str(os.getpid()),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _died(label: str, code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return f"{label}: the process was killed (out of memory?); lower the batch sizes or free memory, then run again"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{label}: the process ended with {how}; see {log}, then run again"


def _forget(batch: Path) -> None:
    # Hidden first: a kill between two unlinks must not leave a batch that looks whole.
    hidden = batch.with_name(f".done-{batch.name}")
    batch.rename(hidden)
    reach("batch_hidden")
    for file in hidden.iterdir():
        file.unlink()
    hidden.rmdir()
