"""Command ``sql``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.cli.results import Format, chosen_format, save, show
from selfalign.errors import BadInput
from selfalign.workspace import Workspace


def sql(
    run: RunArgument,
    query: Annotated[
        str | None, typer.Argument(help="A SELECT; - reads it from standard input.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Read the query from a file.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="Value of $name in the query, as name=value (repeatable)."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="Another run to query beside this one, as NAME=RUN (repeatable)."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Rows to show at most.")] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Default: by the name of --output, else table.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the result to a file.")] = None,
    json_: JsonOption = False,
) -> None:
    """Read-only SQL over everything the run made, also while it is running.

    Without a query it lists the tables and views. With --with other runs stand beside this one: NAME.pairs is a table
    of theirs, and runs_compared has the rounds of all.

    Example: [cyan]selfalign sql runs/quickstart "select * from round_summary"[/cyan]

    Example: [cyan]selfalign sql runs/quickstart --with other=runs/other "select * from runs_compared"[/cyan]
    """
    from selfalign.cli.show import print_table
    from selfalign.store.catalog import contents
    from selfalign.store.sql import read_sql, read_sql_of_runs

    workspace = Workspace.existing(run)
    format = chosen_format(format_, json_, output)
    text = _query(query, file)
    # One more than asked for: whether there are more is worth a word to a person.
    wanted = limit + 1 if limit is not None else None
    if text is None:
        if param or with_:
            raise BadInput("--param and --with need a query; write a SELECT")
        table = contents(workspace.store_path)
    elif with_:
        table = read_sql_of_runs(_runs(workspace, with_), text, params=_params(param or ()), limit=wanted)
    else:
        table = read_sql(workspace.store_path, text, params=_params(param or ()), limit=wanted)
    more = limit is not None and table.num_rows > limit
    table = table.slice(0, limit)
    if output is not None:
        save(table, format, output)
        print(f"{table.num_rows} rows written to {output}", file=sys.stderr)
    elif format is Format.table:
        console = Console(highlight=False)
        print_table(table, console)
        if more:
            console.print("there are more rows; raise --limit, or leave it out", style="dim")
    else:
        show(table, format)


def _query(query: str | None, file: Path | None) -> str | None:
    if file is not None:
        if query is not None:
            raise BadInput("a query and --file are given; give one of them")
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadInput(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    return sys.stdin.read() if query == "-" else query


def _params(given: Sequence[str]) -> dict[str, str]:
    return dict(_name_and_value(entry, "--param", "round=2") for entry in given)


def _runs(workspace: Workspace, given: Sequence[str]) -> dict[str, Path]:
    """Store by name; this run comes first, under the name of its folder."""
    runs = {workspace.path.resolve().name: workspace.store_path}
    for entry in given:
        name, path = _name_and_value(entry, "--with", "before=runs/first")
        if name in runs:
            raise BadInput(f"--with {entry}: '{name}' is taken; give this run another name")
        runs[name] = Workspace.existing(Path(path)).store_path
    return runs


def _name_and_value(entry: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals or not name:
        raise BadInput(f"{option} {entry}: has no name; write {option} {example}")
    return name, value
