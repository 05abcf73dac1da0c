"""Command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfalign.cli.options import JsonOption
from selfalign.visible import json_safe
from selfalign.workspace import Workspace


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs: folders, or names under runs/; several are compared.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The file; by default report.html in the run's folder, of several in this one."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="Pairs (labels, rankings) to show, a round.")] = 4,
    json_: JsonOption = False,
) -> None:
    """One HTML file: curves, judges, yields, gates, cost and pairs; works offline, also while the run is at work.

    The run writes its own after every round. --json prints the figures instead, and writes a file only with --output.

    Example: [cyan]selfalign report runs/quickstart[/cyan]

    Example: [cyan]selfalign report runs/quickstart runs/gentler --output compared.html[/cyan]
    """
    from selfalign.report.reading import read_runs
    from selfalign.report.write import report_json, write_report

    workspaces = [Workspace.existing(run) for run in runs]
    if json_:
        print(json_safe(report_json(read_runs(workspaces, pairs))))
        if output is None:
            return
    place = output or (workspaces[0].report if len(workspaces) == 1 else Path(workspaces[0].report.name))
    size = write_report(workspaces, place, pairs)
    if not json_:
        print(f"{place}: {size / 1e6:.1f} MB; open it in a browser")
