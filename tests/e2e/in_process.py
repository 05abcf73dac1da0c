"""Whole runs in this process: what is looked at is what rounds make, not how their stages are started.

Two things cost most of a tiny run: stage processes that import torch and TRL, and a store that is opened for every
access. Here stages are calls, and a round is one transaction.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.history import open_run
from selfalign.preflight import check
from selfalign.progress import Silent
from selfalign.rounds import begin_round, end_round, rounds_left, run_round_stage, stages_of
from selfalign.session import held
from selfalign.stages.jobs import JobFolder
from selfalign.stages.launch import Launcher, StageProcess
from selfalign.stages.worker import WORK
from selfalign.workspace import Workspace


class _Ended:
    """A stage that is done as it is started; its errors are raised where it was started."""

    #: No process has it, so that none is ended in its place.
    pid = 0

    def poll(self) -> int:
        return 0

    def kill(self) -> None:
        pass


class InProcess(Launcher):
    """Does the jobs of stages instead of starting processes for them."""

    def warm_up(self, modules: Sequence[str] = ()) -> None:
        return None

    def start(self, job: Path, log: Path, environment: Mapping[str, str], modules: Sequence[str] = ()) -> StageProcess:
        folder = JobFolder(job)
        module, _, name = WORK[folder.spec()["kind"]].partition(":")
        getattr(importlib.import_module(module), name)(folder)
        return _Ended()


def run_whole(config: RunConfig) -> Workspace:
    """Every round of ``config``, relative paths from the working folder."""
    workspace = Workspace(config.workspace_path())
    workspace.create()
    with held(workspace, config, Silent()) as context:
        context.launcher = InProcess()
        check(context)
        open_run(context)
        for round in rounds_left(context):
            begin_round(context, round)
            with context.store.write():
                for name in stages_of(round, config):
                    loaded = len(sys.modules)
                    run_round_stage(context, round, name)
                    if len(sys.modules) > loaded:
                        gc.freeze()  # what it imported stays; engines and trainers collect garbage often
            end_round(context, round)
    return workspace
