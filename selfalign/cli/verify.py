"""``verify``: is the run what it was when it was made?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.workspace import Workspace

WeightsOption = Annotated[bool, typer.Option("--weights/--no-weights", help="Hash the checkpoints' files, or do not.")]


def verify(run: RunArgument, weights: WeightsOption = True, json_: JsonOption = False) -> None:
    """Re-check a run: weights, every row's content and references, and the chain from prompt to checkpoint.

    Reads only, also while the run is running. Exit code 0: whole; 1: damage, listed row by row; 2: cannot be read.

    Example: [cyan]selfalign verify runs/quickstart[/cyan]
    """
    from selfalign.verify import verify as check

    report = check(Workspace.existing(run), hashes=weights)
    if json_:
        print(json.dumps({"whole": not report.findings, **asdict(report)}))
    else:
        _print(report, run, Console(highlight=False))
    if report.findings:
        raise typer.Exit(1)


def _print(report: Any, run: Any, console: Console) -> None:
    for finding in report.findings:
        # Not a table: an id must stay in one piece to be copied.
        more = f" (and {finding.more} more rows)" if finding.more else ""
        for line in (
            f"{finding.check}: {finding.table} {finding.row_id} ({finding.where})",
            f"    {finding.what}{more}",
            f"    do: {finding.remedy.replace('RUN', str(run))}",
        ):
            console.print(_plain(line), markup=False, soft_wrap=True)
    counts = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in report.rows.items() if count)
    files = "weights hashed" if report.weights_hashed else "weights not hashed"
    console.print(f"checked in {report.seconds:.1f} s: {counts or 'no rows'}; {files}", markup=False)
    if report.uncovered:
        rows_ = ", ".join(f"{count} {table}" for table, count in report.uncovered.items())
        console.print(f"not covered by a digest (older than digests, ids checked): {rows_}", markup=False)
    total = sum(1 + finding.more for finding in report.findings)
    console.print(f"damage: {total} rows" if total else "whole: no damage found")


def _plain(text: str) -> str:
    """Names in a store may come from anywhere; a terminal must not obey them."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
