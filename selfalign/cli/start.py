"""Commands that bring a run forward: ``run``, ``resume`` and ``fork``."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, get_args

import typer
from rich.console import Console

from selfalign.cli.options import ConfigArgument, JsonOption, OnChangeOption, RunArgument, SetOption
from selfalign.config import RunConfig, load_config
from selfalign.errors import BadInput
from selfalign.progress import ConsoleReporter
from selfalign.workspace import Workspace


def run(
    config: ConfigArgument, set_: SetOption = None, on_change: OnChangeOption = "ask", json_: JsonOption = False
) -> None:
    """Start the run, or go on where it stopped: the same command for both.

    Example: [cyan]selfalign run flows/quickstart.yaml[/cyan]
    """
    start(load_config(config, set_), f"selfalign run {shlex.quote(str(config))}", on_change=on_change, as_json=json_)


def resume(
    run: RunArgument,
    from_round: Annotated[
        int | None, typer.Option("--from-round", min=0, help="Set aside all that follows this round, as a branch.")
    ] = None,
    set_: SetOption = None,
    on_change: OnChangeOption = "ask",
    json_: JsonOption = False,
) -> None:
    """Go on with a run by its own copy of the config, or from an earlier round.

    Example: [cyan]selfalign resume runs/quickstart --from-round 1[/cyan]
    """
    workspace = Workspace.existing(run)
    settings = workspace.load_config(set_)
    start(
        settings, f"selfalign resume {shlex.quote(str(workspace.path))}", on_change=on_change, as_json=json_,
        from_round=from_round,
    )  # fmt: skip


def fork(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="Name of the new run.", show_default=False)],
    round_: Annotated[int, typer.Option("--round", min=0, help="Its rounds up to this one are the old run's.")],
    set_: SetOption = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder of the new run; beside the old one by default.")
    ] = None,
    start_: Annotated[bool, typer.Option("--start/--no-start", help="Go on with it at once.")] = True,
    json_: JsonOption = False,
) -> None:
    """A new run from any round of another. Stages that its settings leave alone are reused, not made again.

    Example: [cyan]selfalign fork runs/quickstart --round 1 gentler --set train.learning_rate=1e-5[/cyan]
    """
    from selfalign.fork import fork_run

    reporter = ConsoleReporter()
    settings = fork_run(Workspace.existing(run), round_, name, overrides=set_, workspace=workspace, reporter=reporter)
    again = f"selfalign resume {shlex.quote(str(settings.workspace_path()))}"
    if start_:
        start(settings, again, on_change="refuse", as_json=json_)
    else:
        print(f"{settings.workspace_path()}: forked from round {round_}; go on with: {again}")


def start(settings: RunConfig, command: str, *, on_change: str, as_json: bool, from_round: int | None = None) -> None:
    """Bring a run to its last round, with progress on stderr and its rounds on stdout.

    ``command`` is how a person would go on with it.
    """
    from flows.head_start import HeadStart
    from flows.server import patience_s, prefect_for
    from selfalign.cli.show import print_run
    from selfalign.history import OnChange, discard_after
    from selfalign.rounds import rounds_left
    from selfalign.schedule import last_of_start
    from selfalign.session import session

    if on_change not in get_args(OnChange):
        raise BadInput(f"--on-change {on_change}: unknown; known: {', '.join(get_args(OnChange))}")
    with _reporting() as reporter:
        ask = _ask if on_change == "ask" and sys.stdin.isatty() and sys.stderr.isatty() else None
        patience = patience_s()
        with session(settings, reporter, on_change=on_change, ask=ask) as context:  # type: ignore[arg-type]
            if from_round is not None:
                discard_after(context, from_round)
            if rounds_left(context):
                last = last_of_start(settings)
                with prefect_for(context.workspace), HeadStart(context, last) as head:
                    head.let_begin()
                    from flows.align import run_rounds

                    run_rounds(context, last, head, patience_s=patience)
    print_run(Workspace(settings.workspace_path()), command, Console(highlight=False), as_json=as_json)


@contextlib.contextmanager
def _reporting() -> Iterator[ConsoleReporter]:
    signal.signal(signal.SIGTERM, _terminate)
    reporter = ConsoleReporter()
    try:
        yield reporter
    finally:
        reporter.close()


def _ask(what: str) -> str:
    typer.echo(f"{what}\n", err=True)
    typer.echo("  branch  set those rows aside as a branch and make the stages again", err=True)
    typer.echo("  keep    leave finished rounds as they are; the new settings hold from the next round on", err=True)
    typer.echo("  refuse  stop and change nothing", err=True)
    return str(typer.prompt("What now?", default="refuse", err=True))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
