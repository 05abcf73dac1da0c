"""Tables and samples for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from selfalign.store.store import Store
from selfalign.workspace import Workspace

_ROUND_COLUMNS = """
    select model, prompts, candidates, judgements, pairs, mean_margin as margin,
           pass_rate_strict as strict, pass_rate_strict_low as low, pass_rate_strict_high as high,
           delta_vs_m0 as vs_m0, delta_vs_m0_low as vs_m0_low, delta_vs_m0_high as vs_m0_high,
           mean_length as tokens, distinct_2, log_ratio_to_m0 as log_ratio, seconds
    from round_summary order by round
"""


def print_table(table: pa.Table, console: Console) -> None:
    """Any result as a table; numbers right, text folded, nothing cut without a sign."""
    shown = Table(header_style="bold")
    for field in table.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        shown.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in table.to_pylist():
        shown.add_row(*(_cell(value) for value in row.values()))
    console.print(shown)
    console.print(f"{table.num_rows} row{'' if table.num_rows == 1 else 's'}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))


def print_run(workspace: Workspace, console: Console, *, as_json: bool) -> None:
    """What a finished run leaves on the screen: rounds, three pairs, what to try next."""
    store = Store(workspace.store_path)
    rounds = store.query(_ROUND_COLUMNS)
    if as_json:
        print(json.dumps({"workspace": str(workspace.path), "rounds": rounds.to_pylist()}, default=str))
        return
    console.print()
    print_table(rounds, console)
    console.print(
        "[dim]strict: share of held-out prompts whose every constraint is met; low/high and vs_m0_*: 95 % intervals[/dim]\n"
    )
    for pair in _sample_pairs(store):
        console.print(_side_by_side(pair))
    path = workspace.path
    console.print(
        f"""Next:
  selfalign status {path}
  selfalign sql {path} "select * from round_summary"
  selfalign sql {path} "select prompt, chosen, rejected, margin from pair_text order by margin desc limit 5"
  selfalign sql {path} "select * from judge_health"
  selfalign sql {path} "select * from lineage limit 4"
  selfalign run <config> --set rounds=4      # two more rounds on top of these""",
        markup=False,
    )


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
    sides.add_row(escape(pair["chosen"]), escape(pair["rejected"]))
    return Panel(sides, title=f"round {pair['round']}", subtitle=escape(pair["prompt"]), subtitle_align="left")


def print_status(workspaces: Sequence[Workspace], console: Console, *, as_json: bool) -> None:
    """Every stage of every run with its state, rows and seconds."""
    reports = [_status(workspace) for workspace in workspaces]
    if as_json:
        print(json.dumps(reports, default=str))
        return
    for report in reports:
        state = f"running (pid {report['pid']})" if report["pid"] else "not running"
        console.print(f"[bold]{report['run']}[/bold] in {report['workspace']}: {state}")
        print_table(pa.Table.from_pylist(report["stages"]) if report["stages"] else pa.table({}), console)
        for line in report["yields"]:
            console.print(f"  round {line['round']}: {line['prompts']} prompts {line['reason']}")


def _status(workspace: Workspace) -> dict[str, Any]:
    store = Store(workspace.store_path)
    begun = store.get_run()
    return {
        "run": begun["run"] if begun else "",
        "workspace": str(workspace.path),
        "pid": workspace.holder(),
        "stages": store.query(
            "select round, stage, status, attempt, rows_in, rows_out, seconds, started_at from stages order by started_at"
        ).to_pylist(),
        "yields": store.query("select * from yields order by round, reason").to_pylist(),
    }
