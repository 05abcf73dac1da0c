"""Commands for runs that go by themselves: ``serve``, and the ``pause`` and ``approve`` of a run at work."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from selfalign import control
from selfalign.cli.options import ConfigArgument, RunArgument, SetOption
from selfalign.config import load_config
from selfalign.errors import BadInput
from selfalign.schedule import parse_interval, progress
from selfalign.workspace import Workspace


def serve(
    config: ConfigArgument,
    cron: Annotated[str | None, typer.Option(help="When to fire, e.g. '0 2 * * *'.")] = None,
    interval: Annotated[str | None, typer.Option(help="How often to fire: seconds, or e.g. 10m, 6h.")] = None,
    name: Annotated[str | None, typer.Option(help="The deployment's name; the run's by default.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Firings at once; more than one only helps to see the others skipped.")
    ] = 1,
    port: Annotated[int | None, typer.Option(help="Of the server that is started; a free one by default.")] = None,
    set_: SetOption = None,
) -> None:
    """Fire a run by the clock, as a Prefect deployment; each firing makes execution.rounds_per_start rounds.

    Example: [cyan]selfalign serve run.yaml --cron "0 2 * * *" --set execution.rounds_per_start=1[/cyan]
    """
    if (cron is None) == (interval is None):
        raise BadInput("serve: give one of --cron and --interval")
    every = parse_interval(interval) if interval else None
    settings = load_config(config, set_)

    from flows.serve import check_cron
    from flows.serve import serve as serve_forever
    from selfalign.plan import estimate

    workspace = Workspace(settings.workspace_path())
    if cron:
        check_cron(cron, workspace)
    estimate(settings)  # what cannot run is refused now, not at two in the night
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    when = f"cron {cron!r}" if cron else f"every {every}"

    def ready(page: str, deployment: str) -> None:
        print(f"{settings.name}: {when}; page {page}; deployment {deployment}; stop with Ctrl-C", flush=True)

    serve_forever(
        config.resolve(), set_ or [], workspace, name=name or settings.name, cron=cron,
        interval=every, limit=limit, port=port, ready=ready,
    )  # fmt: skip


def pause(run: RunArgument) -> None:
    """Halt a run at its next stage boundary, until it is approved.

    Example: [cyan]selfalign pause runs/quickstart[/cyan]
    """
    workspace = Workspace.existing(run)
    control.pause(workspace)
    where = "at its next stage" if workspace.holder() else "when it is next started"
    print(f"{workspace.path}: pauses {where}; go on with: selfalign approve {workspace.path}")


def approve(run: RunArgument) -> None:
    """End a pause, and let the next round follow the last one that is done.

    Example: [cyan]selfalign approve runs/quickstart[/cyan]
    """
    workspace = Workspace.existing(run)
    done, _ = progress(workspace)
    control.approve(workspace, done)
    print(f"{workspace.path}: approved" + (f" up to round {done}" if done else ""))
