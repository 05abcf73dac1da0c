"""A run's figures, read from its views in one moment; the run waits no longer than that."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from selfalign.report.examples import read_changes, read_examples
from selfalign.report.figures import (
    About,
    Agreement,
    Branch,
    Cost,
    Decision,
    Diversity,
    Fate,
    Flips,
    Health,
    JudgeFigure,
    KindFigure,
    Length,
    Measured,
    RunFigures,
    ScoreBin,
    Standing,
    Step,
    Summary,
    Training,
)
from selfalign.report.reviewed import read_reviewed
from selfalign.store.snapshot import Snapshot, select, snapshot
from selfalign.workspace import Workspace

R = TypeVar("R")

#: What it says of the process that made the run, besides what the config says.
_LEFT_OUT = ("config", "cwd")
_PARTS: Mapping[str, type[Any]] = {
    "rounds": Summary, "measured": Measured, "judge_figures": JudgeFigure,
    "judge_by_kind": KindFigure, "flips": Flips, "health": Health, "agreement": Agreement,
    "scores": ScoreBin, "lengths": Length, "diversity": Diversity, "funnel": Step, "fates": Fate,
    "decisions": Decision, "costs": Cost, "training": Training, "branches": Branch,
}  # fmt: skip


def read_runs(workspaces: Sequence[Workspace], examples: int) -> list[RunFigures]:
    """The figures of every run, each under a name of its own.

    Args:
        examples: pairs (or labels, or rankings) to read, a round; also of held-out answers that changed.

    Raises:
        StoreError: a store cannot be opened.
        BadInput: reading took so long that it would hold up a run that is at work, or a file of reviews cannot be read.
    """
    found = [_read_run(workspace, examples) for workspace in workspaces]
    named = [figures.label for figures in found]
    return [
        figures if named.count(figures.label) == 1 else _renamed(figures, f"{figures.label} ({figures.workspace})")
        for figures in found
    ]


def _read_run(workspace: Workspace, examples: int) -> RunFigures:
    at_work = workspace.holder() is not None
    with snapshot(workspace.store_path, max_seconds=30.0 if at_work else None) as store:
        about = _about(store)
        parts: dict[str, Any] = {name: rows_of(store, kind) for name, kind in _PARTS.items()}
        gaps = [kind.view for kind in _PARTS.values() if not store.columns(kind.view)]
        return RunFigures(
            label=about.run if about else workspace.path.name,
            workspace=str(workspace.path),
            read_at=datetime.now(UTC),
            about=about,
            standing=_standing(store, at_work, _rounds(about)),
            examples=read_examples(store, examples),
            changes=read_changes(store, examples),
            reviewed=read_reviewed(store, workspace.reviews),
            gaps=gaps,
            **parts,
        )


def rows_of(store: Snapshot, kind: type[R]) -> list[R]:
    """All rows of the view of ``kind``; none where the store cannot have it."""
    view: str = kind.view  # type: ignore[attr-defined]
    columns = store.columns(view)
    if not columns:
        return []
    wanted = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    order: str = kind.order  # type: ignore[attr-defined]
    rows = store.rows(f"{select(columns, wanted, view)} ORDER BY {order}")
    return [kind(**{name: _known(value) for name, value in row.items()}) for row in rows]


def _known(value: Any) -> Any:
    """A figure that is no number (infinite, undefined) is none: JSON has no word for it, and a plot no place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _about(store: Snapshot) -> About | None:
    wanted = ["run", "seed", "version", "created_at", "origin", "config", "environment"]
    found = store.rows(f"{select(store.columns('runs'), wanted, 'runs')} ORDER BY created_at LIMIT 1")
    if not found:
        return None
    row = found[0]
    environment = {name: value for name, value in _object(row["environment"]).items() if name not in _LEFT_OUT}
    return About(
        row["run"], row["seed"], row["version"], row["created_at"], _object(row["origin"]) or None,
        _object(row["config"]), environment,
    )  # fmt: skip


def _object(text: str | None) -> dict[str, Any]:
    """JSON that should hold an object; whatever else it holds is no reason to have no report."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rounds(about: About | None) -> int | None:
    rounds = about.config.get("rounds") if about else None
    return rounds if isinstance(rounds, int) else None


def _standing(store: Snapshot, at_work: bool, wanted: int | None) -> Standing:
    """``wanted``: the last round that the config asks for."""
    rounds = {row["round"]: row["status"] for row in store.rows("SELECT round, status FROM rounds ORDER BY round")}
    stages = store.rows("SELECT round, stage, status FROM stages ORDER BY started_at DESC LIMIT 1")
    done = [round for round, status in rounds.items() if status == "done"]
    of = f" of {wanted}" if wanted is not None and wanted > max(done, default=0) else ""
    finished = (
        f"rounds 0 to {max(done)}{of} are done"
        if len(done) > 1
        else f"round 0{of} is done"
        if done
        else "no round is done"
    )
    if len(done) == len(rounds):  # the last round has ended, and none has begun since
        return Standing(at_work and bool(of), f"{finished}; at work" if at_work and of else finished)
    last = stages[0] if stages else None
    where = f"round {last['round']}, stage {last['stage']} ({last['status']})" if last else f"round {max(rounds)}"
    return Standing(at_work, f"{finished}; {'at work on' if at_work else 'stopped in'} {where}")


def _renamed(figures: RunFigures, label: str) -> RunFigures:
    return replace(figures, label=label)
