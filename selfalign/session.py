"""Holding a run: its workspace's lock, what an earlier start left behind, the checks, the store.

Whoever works on a run (the command line, a Prefect deployment, a notebook) does it inside :func:`session`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator

from selfalign.config import RunConfig
from selfalign.errors import BadInput
from selfalign.preflight import check
from selfalign.progress import Reporter
from selfalign.rounds import open_run
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Something that runs as long as the workspace is held.
Beside = Callable[[Workspace], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def session(config: RunConfig, reporter: Reporter, beside: Beside | None = None) -> Iterator[RunContext]:
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
    with workspace.lock(), contextlib.ExitStack() as company:
        for what in workspace.reap():
            reporter.note(f"ended {what}, left by an earlier start")
        if beside:
            company.enter_context(beside(workspace))
        context = RunContext(config, workspace, Store(workspace.store_path), reporter)
        try:
            check(context)
            open_run(context)
        except BadInput:
            company.close()
            if fresh:  # a config that cannot run leaves nothing behind
                shutil.rmtree(workspace.path, ignore_errors=True)
            raise
        reporter.note(f"run {config.name}: {config.rounds} rounds of {config.model}, in {workspace.path}")
        try:
            yield context
        finally:
            workspace.reap()
