"""Commands about room on disk: ``gc``, ``checkpoints list``, ``checkpoints restore``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.errors import BadInput, WorkspaceBusy
from selfalign.workspace import Workspace

if TYPE_CHECKING:
    from selfalign.disk.cleanup import Item, Options
    from selfalign.stages.context import RunContext

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 86400, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def gc(
    run: Annotated[Path | None, typer.Argument(help="A run: its folder, or its name under runs/.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run under runs/.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    branches: Annotated[bool, typer.Option("--branches", help="Also rows and checkpoints of branches.")] = False,
    older_than: Annotated[str, typer.Option(help="Age of logs and Prefect's data: 12h, 7d, 4w.")] = "7d",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: JsonOption = False,
) -> None:
    """Give back disk space: leftovers of kills, scratch, old logs, and what the config's keep section lets go.

    Example: [cyan]selfalign gc runs/quickstart --dry-run[/cyan]
    """
    from selfalign.disk.cleanup import Options

    options = Options(_seconds(older_than), branches)
    reports = []
    for workspace in _chosen(run, all_):
        try:
            reports.append(_collect(workspace, options, dry_run=dry_run, yes=yes, as_json=json_))
        except WorkspaceBusy as busy:
            if not all_:
                raise
            print(f"left alone: {busy}", file=sys.stderr)
            reports.append({"run": str(workspace.path), "items": [], "bytes": 0, "removed": False})
    if json_:
        print(json.dumps(reports))


def checkpoints_list(run: RunArgument, json_: JsonOption = False) -> None:
    """Every round's weights: where, in which form, how big, and why they are kept or gone.

    Example: [cyan]selfalign checkpoints list runs/quickstart[/cyan]
    """
    rows = _checkpoint_rows(_opened(Workspace.existing(run)))
    if json_:
        print(json.dumps(rows))
        return
    import pyarrow as pa

    from selfalign.cli.show import print_table
    from selfalign.space import shown

    table = [{**row, "weights": row["weights"][:12], "bytes": shown(row["bytes"])} for row in rows]
    print_table(pa.Table.from_pylist(table) if table else pa.table({}), Console(highlight=False))


def checkpoints_restore(
    run: RunArgument,
    round: Annotated[int, typer.Argument(help="Whose weights: N of M_N.", show_default=False)],
    as_folder: Annotated[
        Path | None, typer.Option(help="Write a complete model folder here instead of into the run.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also compare log-probabilities on M_N's held-out answers.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Rebuild weights that were kept as an adapter (bit for bit) or by BitDelta (approximately).

    Example: [cyan]selfalign checkpoints restore runs/quickstart 1[/cyan]
    """
    from selfalign.disk.retention import restore

    workspace = Workspace.existing(run)
    with workspace.lock():
        context = _opened(workspace)
        done = restore(context, round, as_folder)
        report: dict[str, Any] = {**asdict(done), "path": str(done.path)}
        if measure:
            from selfalign.disk.restored_error import log_prob_error

            report["log_prob_error"] = log_prob_error(context, round, done.path)
    if json_:
        print(json.dumps(report))
        return
    how = "exactly as they were trained" if done.exact else "an approximation: other weights, with another hash"
    print(f"M{round} is in {done.path} ({done.weights_hash[:12]}, {how})")
    if measure:
        figures = report["log_prob_error"]
        print(
            f"log-probability of {figures['answers']} held-out answers: off by {figures['mean_per_token']:+.4f} nats a "
            f"token on average, {figures['mean_abs_per_token']:.4f} in size"
        )


def _chosen(run: Path | None, every: bool) -> list[Workspace]:
    if every == (run is not None):
        raise BadInput("name one run, or give --all: selfalign gc runs/NAME")
    if run is not None:
        return [Workspace.existing(run)]
    found = [Workspace(path.parent) for path in sorted(Path("runs").glob("*/store.duckdb"))]
    if not found:
        raise BadInput("no runs under runs/")
    return found


def _collect(workspace: Workspace, options: Options, *, dry_run: bool, yes: bool, as_json: bool) -> dict[str, Any]:
    """List one run's items and, where agreed, remove them; raises WorkspaceBusy where another process holds it."""
    from selfalign.disk.cleanup import find, remove
    from selfalign.space import shown

    report: dict[str, Any] = {"run": str(workspace.path), "items": [], "bytes": 0, "removed": False}
    with workspace.lock():
        context = _opened(workspace)
        items = find(context, options)
        _list(workspace, items, as_json)
        report |= {"items": [asdict(item) for item in items], "bytes": sum(item.n_bytes for item in items)}
        if dry_run or not items or not _agreed(items, yes, as_json):
            return report
        workspace.reap()
        freed = 0
        for item, n_bytes in remove(context, items):
            freed += n_bytes
            if not as_json:
                print(f"  {item.kind} {item.name}: {shown(n_bytes)} freed")
        if not as_json:
            print(f"{workspace.path}: {shown(freed)} freed")
        return {**report, "bytes": freed, "removed": True}


def _list(workspace: Workspace, items: Sequence[Item], as_json: bool) -> None:
    if as_json:
        return
    if not items:
        print(f"{workspace.path}: nothing can go")
        return
    import pyarrow as pa

    from selfalign.cli.show import print_table
    from selfalign.space import shown

    console = Console(highlight=False)
    console.print(f"[bold]{workspace.path}[/bold]: about {shown(sum(i.n_bytes for i in items))} can go")
    rows = [{"kind": i.kind, "what": i.name, "why": i.why, "size": shown(i.n_bytes)} for i in items]
    print_table(pa.Table.from_pylist(rows), console)


def _agreed(items: Sequence[Item], yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise BadInput("nothing was removed: add --yes to remove what is listed, or --dry-run to only list it")
    return typer.confirm(f"Remove these {len(items)}?", default=False)


def _seconds(age: str) -> float:
    found = _AGE.fullmatch(age.strip())
    if found is None:
        raise BadInput(f"--older-than {age}: write a number with s, m, h, d or w, e.g. 7d")
    return float(found[1]) * _SECONDS[found[2]]


def _opened(workspace: Workspace) -> RunContext:
    from selfalign.progress import Silent
    from selfalign.stages.context import RunContext
    from selfalign.store.store import Store

    return RunContext(workspace.load_config(), workspace, Store(workspace.store_path), Silent())


def _checkpoint_rows(context: RunContext) -> list[dict[str, Any]]:
    from selfalign.disk import kept, retention
    from selfalign.disk.cleanup import newest_round
    from selfalign.space import folder_bytes

    needed = retention.needed_rounds(context, newest_round(context))
    values = {held.round: held.value for held in retention.held(context)}
    rows = []
    for round, row in sorted(retention.checkpoints(context).items()):
        folder = context.workspace.path / row.path
        record = kept.read(folder)
        rows.append(
            {
                "model": f"M{round}",
                "form": record.form if record else "full",
                "bytes": folder_bytes(folder),
                "weights": row.weights_hash,
                context.config.keep.metric: values.get(round),
                "path": row.path,
                "note": record.why if record else needed.get(round, ""),
            }
        )
    return rows
