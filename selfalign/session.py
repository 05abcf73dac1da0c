"""Holding a run: its workspace's lock, what an earlier start left behind, the checks, the store.

Whoever works on a run (the command line, a Prefect deployment, a notebook) does it inside :func:`session`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from selfalign.config import RunConfig
from selfalign.disk.estimate import check_room
from selfalign.errors import BadInput
from selfalign.history import Ask, OnChange, open_run
from selfalign.preflight import check
from selfalign.progress import Reporter
from selfalign.space import full_disk_explained
from selfalign.stages import loads, scanned
from selfalign.stages.context import RunContext
from selfalign.stages.launch import Launcher
from selfalign.store.store import Store
from selfalign.workspace import Workspace


@contextlib.contextmanager
def held(workspace: Workspace, config: RunConfig, reporter: Reporter) -> Iterator[RunContext]:
    """A run whose workspace nobody else touches during the block; nothing is checked and nothing is started.

    Raises:
        WorkspaceBusy: another process holds it.
    """
    launcher = Launcher()
    with workspace.lock():
        try:
            for what in workspace.reap():
                reporter.note(f"ended {what}, left by an earlier start")
            yield RunContext(config, workspace, Store(workspace.store_path), reporter, launcher)
        finally:
            launcher.close()
            workspace.reap()


@contextlib.contextmanager
def session(
    config: RunConfig, reporter: Reporter, *, on_change: OnChange = "refuse", ask: Ask | None = None
) -> Iterator[RunContext]:
    """The opened run of ``config``, its workspace held until the block ends.

    Raises:
        BadInput: the config cannot run; a workspace that was not there before is gone again.
        WorkspaceBusy: another process holds it.
    """
    workspace = Workspace(config.workspace_path())
    fresh = not workspace.path.exists()
    workspace.create()
    with full_disk_explained(workspace.path), held(workspace, config, reporter) as context:
        # The stages' libraries load while the checks are made.
        if helper := context.launcher.warm_up(loads.of_run(config)):
            workspace.record_process(helper, "the stages' preloading process")
        try:
            found = check(context)
            open_run(context, on_change, ask)
            check_room(context, found)
        except BadInput:
            context.launcher.close()
            if fresh:  # a config that cannot run leaves nothing behind
                shutil.rmtree(workspace.path, ignore_errors=True)
            raise
        reporter.note(f"run {config.name}: {config.rounds} rounds of {config.model}, in {workspace.path}")
        if context.repeats:
            reporter.note(f"{len(context.repeats)} training prompts left out as repeats; events name each of them")
        for line in scanned.in_words(context):
            reporter.note(f"{line}; events name each of them")
        yield context
