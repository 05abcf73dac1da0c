"""Commands about a run's past: ``branches`` and ``rollback``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import pyarrow as pa
import typer
from rich.console import Console

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.workspace import Workspace


def branches(run: RunArgument, json_: JsonOption = False) -> None:
    """What a run set aside: stages made with other settings, or discarded by going back.

    Example: [cyan]selfalign branches runs/quickstart[/cyan]
    """
    from selfalign.cli.show import print_table
    from selfalign.history import list_of_branches
    from selfalign.store.store import Store

    found = list_of_branches(Store(Workspace.existing(run).store_path))
    if json_:
        print(json.dumps([asdict(branch) for branch in found], default=str, ensure_ascii=False))
        return
    if not found:
        print("no branches: nothing of this run was set aside")
        return
    rows = [{key: value for key, value in asdict(branch).items() if key != "config"} for branch in found]
    print_table(pa.Table.from_pylist(rows), Console(highlight=False))


def rollback(
    run: RunArgument, branch: Annotated[str, typer.Argument(help="A name that `selfalign branches` shows.")]
) -> None:
    """Make a branch the run's present again; what it replaces becomes a branch itself.

    Example: [cyan]selfalign rollback runs/quickstart b1[/cyan]
    """
    from selfalign.history import roll_back
    from selfalign.progress import ConsoleReporter
    from selfalign.session import held
    from selfalign.store.branches import in_words

    workspace = Workspace.existing(run)
    with held(workspace, workspace.load_config(), ConsoleReporter()) as context:
        brought = roll_back(context, branch)
    print(f"{workspace.path}: back are {in_words(brought) or 'no finished stages'}; "
          f"go on with: selfalign resume {workspace.path}")  # fmt: skip
