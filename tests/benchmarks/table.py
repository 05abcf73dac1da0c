"""The table as people read it, and the files that keep it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.growth import Curve
from tests.benchmarks.measure import Row
from tests.benchmarks.plot import svg

FOLDER = Path(__file__).parent
RESULTS, GROWTH, PLOT = FOLDER / "results.json", FOLDER / "growth.json", FOLDER / "growth.svg"


def show(rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
    """Print the table."""
    lines = Table(title=f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads a process")
    for name in ("benchmark", "ours", "peer", "unit", "ratio", "lowest .. highest", "runs", "goal", "MiB ours / peer"):
        lines.add_column(name, justify="left" if name == "benchmark" else "right")
    for row in rows:
        lines.add_row(row.name, *_cells(row))
    Console(width=200).print(lines)
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def keep(rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
    """Write ``rows`` to results.json in place of earlier ones of their names."""
    earlier = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    names = {row.name for row in rows}
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    new = [{**asdict(row), "met": row.met, "machine": dict(machine), "measured_at": measured} for row in rows]
    kept = [row for row in earlier if row["name"] not in names]
    RESULTS.write_text(json.dumps([*kept, *new], indent=1, ensure_ascii=False) + "\n", "utf-8")


def markdown() -> str:
    """results.json as the table of docs/benchmarks.md, in the order in which rows were measured."""
    lines = [
        "| benchmark | ours | peer | unit | ratio (lowest .. highest, runs) | goal | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for kept in json.loads(RESULTS.read_text("utf-8")):
        names = {field.name for field in fields(Row)}
        row = Row(**{name: value for name, value in kept.items() if name in names})
        ours, peer, unit, ratio, spread, runs, goal, memory = _cells(row)
        figure = f"{ratio} ({spread}, {runs})" if row.ratio is not None else row.note
        lines.append(f"| {row.name} | {ours} | {peer} | {unit} | {figure} | {goal} | {memory} |")
    return "\n".join(lines)


def keep_growth(curves: Sequence[Curve], machine: Mapping[str, Any]) -> None:
    """Write the curves, and draw them."""
    GROWTH.write_text(
        json.dumps({"machine": dict(machine), "curves": [asdict(curve) for curve in curves]}, indent=1) + "\n", "utf-8"
    )
    PLOT.write_text(svg(curves), "utf-8")


def _cells(row: Row) -> list[str]:
    if row.ratio is None or row.spread is None:
        return ["-", "-", row.unit, "-", "-", "0", row.goal, "-"]
    mark = {True: " (met)", False: " (missed)", None: ""}[row.met]
    return [
        _short(row.ours), _short(row.peer), row.unit, f"{row.ratio:.2f}", f"{row.spread[0]:.2f} .. {row.spread[1]:.2f}",
        str(row.runs), row.goal + mark, " / ".join(f"{mib:.0f}" for mib in row.memory.values()),
    ]  # fmt: skip


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
