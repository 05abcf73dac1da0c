"""Command ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption
from selfalign.errors import BadInput
from selfalign.workspace import Workspace


def status(run: Annotated[Path | None, typer.Argument(help="A run; all under runs/ by default.")] = None,
           json_: JsonOption = False) -> None:  # fmt: skip
    """Rounds, stages, rows and yields, and what is running.

    Example: [cyan]selfalign status runs/quickstart[/cyan]
    """
    from selfalign.cli.show import print_status

    found = (
        [Workspace.existing(run)] if run else [Workspace(p.parent) for p in sorted(Path("runs").glob("*/store.duckdb"))]
    )
    if not found:
        raise BadInput("no runs under runs/; start one with: selfalign run flows/quickstart.yaml")
    print_status(found, Console(highlight=False), as_json=json_)
