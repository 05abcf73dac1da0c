"""Command ``scan``."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfalign.cli.options import JsonOption
from selfalign.cli.results import Format, chosen_format, save, show
from selfalign.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfalign.scanning.findings import Finding


def scan(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Prompt files (.jsonl, .csv, .tsv, .parquet, .txt, .md), folders of these, run configs, or runs.", show_default=False)],
    column: Annotated[str | None, typer.Option("--column", help="Where a table or JSONL file has its prompts.")] = None,
    candidates: Annotated[bool, typer.Option("--candidates", help="Of a run: its candidates as well.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 where something was found.")] = False,
    format_: Annotated[Format | None, typer.Option("--format", help="Default: by the name of --output, else table.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write a row for each finding to a file.")] = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Personal data and secrets in prompts: where they are, of which kind. Values are never shown whole.

    Exit code 0 whatever is found, or 1 with --fail; 2: a source cannot be read.

    Example: [cyan]selfalign scan data/seed_prompts.jsonl run.yaml --fail[/cyan]

    Example: [cyan]selfalign scan runs/quickstart --candidates --output findings.csv[/cyan]
    """
    from selfalign.scan import scan as look
    from selfalign.scan import texts

    format = chosen_format(format_, json_, output)
    found: list[Finding] = []
    n_texts = n_hit = 0
    for source in sources:
        for _, findings in look(texts(source, column=column, candidates=candidates)):
            n_texts += 1
            n_hit += bool(findings)
            found += findings
    if format is not Format.table:
        _write(found, format, output)
    if format is Format.table or output is not None:
        _print(found, n_texts, n_hit, output)
    if fail and found:
        raise typer.Exit(1)


def _write(found: Sequence[Finding], format: Format, output: Path | None) -> None:
    import pyarrow as pa

    from selfalign.scanning.findings import Finding

    types = {field.name: pa.int64() if field.name == "start" else pa.string() for field in fields(Finding)}
    table = pa.Table.from_pylist([asdict(finding) for finding in found], schema=pa.schema(types))
    if output is None:
        show(table, format)
    else:
        save(table, format, output)


def _print(found: Sequence[Finding], n_texts: int, n_hit: int, output: Path | None) -> None:
    from selfalign.scanning.report import by_kind

    console = Console(highlight=False)
    if found:
        table = Table(header_style="bold")
        table.add_column("kind")
        table.add_column("count", justify="right")
        table.add_column("first places", overflow="fold")
        for line in by_kind(found):
            table.add_row(line.kind, str(line.count), escape(visible("\n".join(line.places))))
        console.print(table)
    total = f"{len(found)} findings in {n_hit} of {n_texts} texts" if found else f"nothing found in {n_texts} texts"
    console.print(total if output is None else f"{total}; rows in {output}", markup=False, soft_wrap=True)
