"""The flow that a deployment runs: one firing of a schedule makes the next piece of a run.

It takes names of files, not objects, so that any worker on the machine can run it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from flows.align import announce_failure, rounds_on_page
from flows.missed import skip_due
from selfalign import schedule
from selfalign.config import load_config
from selfalign.errors import SelfAlignError, WorkspaceBusy
from selfalign.progress import ConsoleReporter
from selfalign.session import session


def _run_name() -> str:
    parameters = flow_run.parameters
    with contextlib.chdir(parameters.get("folder") or "."):
        return load_config(Path(parameters["config"]), parameters.get("overrides")).name


@flow(
    name="align-scheduled", flow_run_name=_run_name, persist_result=False,
    on_failure=[announce_failure], on_crashed=[announce_failure],
)  # fmt: skip
def scheduled(config: str, overrides: list[str] | None = None, folder: str | None = None) -> Any:
    """Make the next rounds of the run of ``config``; relative paths start at ``folder``."""
    os.chdir(folder or ".")
    settings, last = schedule.for_firing(load_config(Path(config), overrides))
    if last is None:
        return _ended("AllDone", f"All {settings.rounds} rounds are done; raise rounds or set execution.extend.")
    reporter = ConsoleReporter()
    try:
        with session(settings, reporter) as context:
            held = rounds_on_page(context, last)
    except WorkspaceBusy as error:
        return _ended("Skipped", f"Nothing was done: {error}")
    except SelfAlignError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # whoever serves sees no other trace of it
        raise
    finally:
        reporter.close()
        _skip_what_came_due()
    return _ended("Held", f"Not at its end: {held}") if held else _ended("Completed", f"Round {last} is done.")


def _skip_what_came_due() -> None:
    if deployment.id:
        with contextlib.suppress(Exception):  # the page's tidiness is not worth a run
            skip_due(UUID(deployment.id), "It came due while an earlier firing was at work.")


def _ended(name: str, message: str) -> Any:
    print(message, flush=True)
    return Completed(name=name, message=message)
