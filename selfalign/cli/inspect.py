"""Commands that look at runs: ``status`` and ``sql``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption, RunArgument
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


def sql(run: RunArgument, query: Annotated[str, typer.Argument(help="A SELECT.", show_default=False)],
        json_: JsonOption = False) -> None:  # fmt: skip
    """Read-only SQL over everything the run made, also while it is running.

    Example: [cyan]selfalign sql runs/quickstart "select * from round_summary"[/cyan]
    """
    from selfalign.cli.show import print_table
    from selfalign.store.store import read_sql

    table = read_sql(Workspace.existing(run).store_path, query)
    if json_:
        print(json.dumps(table.to_pylist(), default=str, ensure_ascii=False))
    else:
        print_table(table, Console(highlight=False))
