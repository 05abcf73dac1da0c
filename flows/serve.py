"""A schedule that this process fires: a deployment, and where there is no server one of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from flows.prefect_settings import embed_prefect
from flows.server import LOG, Server, serving_file, wait_until_healthy
from selfalign.errors import BadInput, StageFailed
from selfalign.workspace import Workspace


def check_cron(cron: str, workspace: Workspace) -> None:
    """Hold a cron line against what Prefect takes.

    Raises:
        BadInput: it takes another; a workspace that was not there before is gone again.
    """
    fresh = not workspace.path.exists()
    embed_prefect(workspace.prefect)  # makes its home as it is imported, and must make it there
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError:
        if fresh:
            shutil.rmtree(workspace.path, ignore_errors=True)
        raise BadInput(
            f"--cron {cron!r}: not a cron line; five fields, e.g. '0 2 * * *' for every night at two"
        ) from None


@contextlib.contextmanager
def scheduling_server(workspace: Workspace, port: int | None) -> Iterator[str]:
    """The address of the page of a server that fires schedules: the user's, or ours for as long as the block.

    Raises:
        StageFailed: it does not answer.
    """
    if given := os.environ.get("PREFECT_API_URL"):
        yield given.removesuffix("/api")
        return
    # Not recorded in the workspace: each firing would take it for a process left by an earlier start.
    server = Server(workspace.logs / LOG, port=port, schedules=True)
    os.environ["PREFECT_API_URL"] = server.api
    server.start()
    try:
        if not wait_until_healthy(server.api):
            raise StageFailed(f"Prefect's server does not answer at {server.api}; see {server.log}")
        serving_file(workspace).write_text(server.api, encoding="utf-8")
        yield server.page
    finally:
        serving_file(workspace).unlink(missing_ok=True)
        server.stop()
        del os.environ["PREFECT_API_URL"]


def serve(
    config: Path, overrides: list[str], workspace: Workspace, *, name: str, cron: str | None,
    interval: timedelta | None, limit: int, port: int | None, ready: Callable[[str, str], None],
) -> None:  # fmt: skip
    """Fire the run of ``config`` by ``cron`` or ``interval`` until this process is told to stop.

    ``ready`` is told the page and the deployment's name once the schedule is on.
    """
    workspace.create()
    embed_prefect(workspace.prefect)
    with scheduling_server(workspace, port) as page:
        from prefect.flows import EntrypointType
        from prefect.runner import Runner

        from flows.missed import skip_due
        from flows.scheduled import scheduled

        deployment = scheduled.to_deployment(
            name=name, cron=cron, interval=interval, paused=False, entrypoint_type=EntrypointType.MODULE_PATH,
            parameters={"config": str(config), "overrides": overrides, "folder": str(Path.cwd())},
        )  # fmt: skip
        runner: Any = Runner(name=name, pause_on_shutdown=True, limit=limit)
        identity = runner.add_deployment(deployment)
        skip_due(identity, "It was due while nobody served.")
        ready(page, f"{scheduled.name}/{name}")
        import asyncio

        asyncio.run(runner.start())
