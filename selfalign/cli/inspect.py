"""Command ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption
from selfalign.errors import BadInput
from selfalign.workspace import Workspace


def status(
    run: Annotated[Path | None, typer.Argument(help="A run; all under runs/ by default.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until the run ends; Ctrl-C leaves it alone.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks, with --watch.")] = 1.0,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Rounds, stages, rows and yields, and what is running.

    With --watch it ends when nobody is at work on the run any more, with the exit status that the run ended with.

    Example: [cyan]selfalign status runs/quickstart --watch[/cyan]
    """
    from selfalign.cli.show import print_status

    console = Console(highlight=False)
    if watch:
        raise typer.Exit(_watch(run, console, every, as_json=json_))
    found = (
        [Workspace.existing(run)] if run else [Workspace(p.parent) for p in sorted(Path("runs").glob("*/store.duckdb"))]
    )
    if not found:
        raise BadInput("no runs under runs/; start one with: selfalign run flows/quickstart.yaml")
    print_status(found, console, as_json=json_)


def _watch(run: Path | None, console: Console, every: float, *, as_json: bool) -> int:
    from selfalign.cli.watch import watch

    if run is None:
        raise BadInput("--watch: name the run, e.g. selfalign status runs/quickstart --watch")
    if as_json:
        raise BadInput("--watch and --json contradict each other; ask again and again with --json")
    # A run that was started just now has no store yet.
    begun = [workspace for folder in (run, Path("runs") / run) if (workspace := Workspace(folder)).holder()]
    return watch(begun[0] if begun else Workspace.existing(run), console, every)
