"""Holding a run: its workspace's lock, what an earlier start left behind, the checks, the store.

Whoever works on a run (the command line, a Prefect deployment, a notebook) does it inside :func:`session`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator

from selfalign.config import RunConfig
from selfalign.disk.estimate import check_room
from selfalign.errors import BadInput
from selfalign.history import Ask, OnChange, open_run
from selfalign.preflight import check
from selfalign.progress import Reporter
from selfalign.rounds import rounds_left
from selfalign.space import full_disk_explained
from selfalign.stages.context import RunContext
from selfalign.stages.launch import Launcher
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Something that runs as long as the workspace is held.
Beside = Callable[[Workspace], contextlib.AbstractContextManager[object]]


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
    config: RunConfig,
    reporter: Reporter,
    beside: Beside | None = None,
    *,
    on_change: OnChange = "refuse",
    ask: Ask | None = None,
) -> Iterator[RunContext]:
    """The opened run of ``config``, its workspace held until the block ends.

    ``beside`` is entered as soon as the workspace is held, before the checks, and left before the
    workspace is released: what takes long to start (Prefect's server) starts while the checks are made.

    Raises:
        BadInput: the config cannot run; a workspace that was not there before is gone again.
        WorkspaceBusy: another process holds it.
    """
    workspace = Workspace(config.workspace_path())
    fresh = not workspace.path.exists()
    workspace.create()
    with (
        full_disk_explained(workspace.path),
        held(workspace, config, reporter) as context,
        contextlib.ExitStack() as company,
    ):
        if beside:
            company.enter_context(beside(workspace))
        try:
            found = check(context)
            open_run(context, on_change, ask)
            check_room(context, found)
        except BadInput:
            company.close()
            if fresh:  # a config that cannot run leaves nothing behind
                shutil.rmtree(workspace.path, ignore_errors=True)
            raise
        if rounds_left(context) and (helper := context.launcher.warm_up()):
            workspace.record_process(helper, "the stages' preloading process")
        reporter.note(f"run {config.name}: {config.rounds} rounds of {config.model}, in {workspace.path}")
        yield context
