"""Tables and samples for the terminal."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from selfalign.cli.results import rows
from selfalign.store.store import Store
from selfalign.visible import visible
from selfalign.workspace import Workspace

_ROUNDS = "select * from round_summary order by round"
#: Narrower than this a column folds words apart; a table that needs more room is printed row by row.
_READABLE_WIDTH = 7
#: Where there is nothing to show.
_NONE = "-"


def print_table(table: pa.Table, console: Console) -> None:
    """Any result: as a table, numbers right and text folded, or row by row where it has too many columns."""
    if table.num_columns * (_READABLE_WIDTH + 3) > console.width:
        _print_rows(table, console)
        return
    shown = Table(header_style="bold")
    for field in table.schema:
        numeric = any(is_(field.type) for is_ in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))
        shown.add_column(_cell(field.name), justify="right" if numeric else "left", overflow="fold")
    for row in rows(table):
        shown.add_row(*(_cell(value) for value in row))
    console.print(shown)
    console.print(_count(table))


def _print_rows(table: pa.Table, console: Console) -> None:
    for number, row in enumerate(rows(table), start=1):
        console.print(f"[dim]-- {number} --[/dim]")
        shown = Table.grid(padding=(0, 2))
        for name, value in zip(table.column_names, row, strict=True):
            shown.add_row(f"[bold]{_cell(name)}[/bold]", _cell(value))
        console.print(shown)
    console.print(_count(table))


def _count(table: pa.Table) -> str:
    return f"{table.num_rows} row{'' if table.num_rows == 1 else 's'}"


def _cell(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(visible(str(value)))


def print_run(workspace: Workspace, command: str, console: Console, *, as_json: bool) -> None:
    """What a finished run leaves on the screen: rounds, three pairs, what to try next."""
    store = Store(workspace.store_path)
    rounds = store.query(_ROUNDS).to_pylist()
    if as_json:
        print(json.dumps({"workspace": str(workspace.path), "rounds": rounds}, default=str))
        return
    console.print()
    console.print(round_table(rounds))
    console.print(
        "strict: share of held-out prompts whose every constraint is met. Intervals: 95 %, paired where against M0. What "
        "else there is: docs/queries.md\n",
        style="dim",
    )
    for pair in _sample_pairs(store):
        console.print(_side_by_side(pair))
    path = workspace.path
    report = workspace.report
    if report.exists():
        console.print(f"Report, for a browser: {report}\n", markup=False, soft_wrap=True)
    console.print(
        f"""Next:
  selfalign status {path}
  selfalign sql {path} "select * from round_summary"
  selfalign sql {path} "select prompt, chosen, rejected, margin from pair_text order by margin desc limit 5"
  selfalign sql {path} "select * from judge_health"
  selfalign sql {path} "select * from lineage limit 4"
  {command} --set rounds={len(rounds) + 1}   # two more rounds on top of these""",
        markup=False,
        soft_wrap=True,
    )


#: Column of the table of rounds -> what it shows of a row of round_summary. Those that no round has are left out.
_ROUND_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda row: str(row["model"]),
    "trained on": lambda row: _trained_on(row),
    "judge right": lambda row: _with_interval(row, "judge_accuracy", "{:.3f}"),
    "strict pass rate": lambda row: _with_interval(row, "pass_rate_strict", "{:.3f}"),
    "against M0": lambda row: _with_interval(row, "delta_vs_m0", "{:+.3f}"),
    "wins over previous": lambda row: _with_interval(row, "win_rate_vs_previous", "{:.3f}"),
    "wins over M0": lambda row: _with_interval(row, "win_rate_vs_m0", "{:.3f}"),
    "judge drift": lambda row: _with_interval(row, "judge_drift", "{:+.3f}"),
    "plain text against M0": lambda row: _with_interval(row, "plain_text_nll_delta_vs_m0", "{:+.3f}"),
    "tokens": lambda row: _number(row["mean_length"], "{:.0f}"),
    "gates": lambda row: _gates(row),
    "time": lambda row: _number(row["seconds"], "{:.0f} s"),
}


def round_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of ``round_summary``, a line each, without the columns that none of them has."""
    table = Table(header_style="bold")
    # A store that an older version made has fewer columns.
    rows = [defaultdict(lambda: None, row) for row in rounds]
    columns = {name: [show(row) for row in rows] for name, show in _ROUND_COLUMNS.items()}
    shown = {name: cells for name, cells in columns.items() if any(cell != _NONE for cell in cells)}
    for name in shown:
        table.add_column(name, justify="left" if name in ("model", "gates") else "right")
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    return table


def _gates(row: dict[str, Any]) -> str:
    if row["gate"] is None:
        return _NONE
    said = str(row["gate"]).replace("_", " ")
    return escape(f"{said}: {row['gate_failed']}" if row["gate_failed"] else said)


def _trained_on(row: dict[str, Any]) -> str:
    """How many rows of each kind."""
    others = [f"{row[name]} {name}" for name in ("labels", "rankings") if row[name]]
    pairs = [f"{row['pairs']} pairs"] if row["pairs"] and row["round"] else []
    earlier = [f"{row['replayed']} of earlier rounds"] if row["replayed"] else []
    return ", ".join([*pairs, *others, *earlier]) or _NONE


def _with_interval(row: dict[str, Any], name: str, form: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if None in (low, high):
        return _number(value, form)
    rough = form.replace(".3f", ".2f")
    return f"{form.format(value)} \\[{rough.format(low)}, {rough.format(high)}]"


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _sample_pairs(store: Store) -> Sequence[dict[str, Any]]:
    """Three pairs in order of id: a hash, so neither the best nor the worst."""
    pairs: list[dict[str, Any]] = store.query(
        "select * from pair_text order by round desc, pair_id limit 3"
    ).to_pylist()
    return pairs


def _side_by_side(pair: dict[str, Any]) -> Panel:
    sides = Table.grid(expand=True, padding=(0, 2))
    sides.add_column(ratio=1)
    sides.add_column(ratio=1)
    sides.add_row(
        f"[green]chosen {pair['chosen_score']:.2f}[/green]", f"[red]rejected {pair['rejected_score']:.2f}[/red]"
    )
    sides.add_row(_cell(pair["chosen"]), _cell(pair["rejected"]))
    prompt = Text(visible(pair["prompt"]), style="italic")
    return Panel(Group(prompt, "", sides), title=f"round {pair['round']}", title_align="left")


def print_status(workspaces: Sequence[Workspace], console: Console, *, as_json: bool) -> None:
    """Rounds of every run with their figures, then its stages with state, rows and seconds."""
    reports = [_status(workspace) for workspace in workspaces]
    if as_json:
        print(json.dumps(reports, default=str))
        return
    for report in reports:
        state = f"running (pid {report['pid']})" if report["pid"] else "not running"
        console.print(f"[bold]{report['run']}[/bold] in {report['workspace']}: {state}")
        if report["rounds"]:
            console.print(round_table(report["rounds"]))
        print_table(pa.Table.from_pylist(report["stages"]) if report["stages"] else pa.table({}), console)
        for line in report["yields"]:
            console.print(f"  round {line['round']}: {line['prompts']} prompts {line['reason']}")


def _status(workspace: Workspace) -> dict[str, Any]:
    store = Store(workspace.store_path)
    with store.read(oldest=1):
        begun = store.get_run()
        return {
            "run": begun["run"] if begun else "",
            "workspace": str(workspace.path),
            "pid": workspace.holder(),
            "rounds": store.query(_ROUNDS).to_pylist(),
            "stages": store.query(
                "select round, stage, status, attempt, rows_in, rows_out, seconds from stages order by started_at"
            ).to_pylist(),
            "yields": store.query("select * from yields order by round, reason").to_pylist(),
        }
