"""What of a run's folder can go: found first, as a list to show, and removed only then.

Nothing that the table ``checkpoints`` names is among it, except what the ``keep`` section lets go.
Call everything here with the workspace's lock held: what looks half-written is then nobody's work.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfalign.disk import kept, references, retention
from selfalign.space import folder_bytes
from selfalign.stages.context import RunContext
from selfalign.store.compact import archived_tables, compact, reclaimable_bytes

Kind = Literal["half-written", "replaced", "reference", "job", "log", "prefect", "weights", "branch", "store"]

_JOB = re.compile(r"round-(\d+)-(\w+)-([0-9a-f]{8})")
#: Files that were being written aside: `.config.yaml.4711`, `.store.duckdb.1f3a...`.
_ASIDE = re.compile(r"\..+\.\d+|\.store\.duckdb\..+")
#: Below this, and this share of the file, a smaller store is not worth copying it; a fresh one has some room too.
_WORTH_COMPACTING, _WORTH_COMPACTING_SHARE = 4 << 20, 0.2


@dataclass(frozen=True)
class Options:
    """``older_than``: seconds since logs and Prefect's data were last written to. ``branches``: their rows too."""

    older_than: float = 7 * 86400.0
    branches: bool = False


@dataclass(frozen=True)
class Item:
    """One thing that can go. ``n_bytes`` is a close estimate; ``paths`` are below the workspace."""

    kind: Kind
    name: str
    why: str
    n_bytes: int
    paths: tuple[str, ...] = ()


def find(context: RunContext, options: Options) -> list[Item]:
    """Everything that can go, biggest last. Changes nothing."""
    found = [
        *_half_written(context),
        *_replaced(context),
        *_references(context),
        *_jobs(context),
        *_old(context, options.older_than),
        *_weights(context),
        *(_branches(context) if options.branches else ()),
        *_store(context),
    ]
    return sorted(found, key=lambda item: (item.kind == "store", item.n_bytes))


def remove(context: RunContext, items: Sequence[Item]) -> Iterator[tuple[Item, int]]:
    """Remove ``items``, giving each with the bytes that it freed as soon as it is gone.

    Raises:
        DiskFull: no room to compress weights, or to copy the store; what was removed before stays removed.
    """
    root = context.workspace.path
    reduced: dict[str, int] = {}
    for item in items:
        if item.kind == "weights":
            reduced = reduced or _reduce(context)
            yield item, reduced.get(item.name, 0)
        elif item.kind == "branch":
            yield item, _remove_branch(context, item.name)
        elif item.kind != "store":
            yield item, sum(_remove_path(root / path) for path in item.paths)
    # Last, as the rows of branches are gone only now.
    for item in items:
        if item.kind == "store" or (item.kind == "branch" and not any(i.kind == "store" for i in items)):
            yield Item("store", context.workspace.store_path.name, item.why, 0), compact(context.workspace.store_path)
            break


def newest_round(context: RunContext) -> int:
    """The last round that has ended; what follows is under way."""
    rows = context.store.query("select coalesce(max(round), 0) as round from rounds where status = 'done'").to_pylist()
    return int(rows[0]["round"])


# -- finding -------------------------------------------------------------------------------------


def _half_written(context: RunContext) -> Iterator[Item]:
    workspace = context.workspace
    folders = [
        workspace.path, workspace.state, workspace.references, workspace.checkpoints, *workspace.checkpoints.glob("*/")
    ]  # fmt: skip
    for folder in folders:
        for path in sorted(folder.glob(".*")):
            if path.name.endswith(".partial") or (path.is_file() and _ASIDE.fullmatch(path.name)):
                yield _item(context, "half-written", path, "was being written when its process ended")


def _replaced(context: RunContext) -> Iterator[Item]:
    named = _named_folders(context)
    for path in sorted(context.workspace.checkpoints.glob("*.replaced-*")):
        if path.resolve() not in named:
            yield _item(context, "replaced", path, "other weights took its place, and no row names it")


def _references(context: RunContext) -> Iterator[Item]:
    for path in references.superseded(context, newest_round(context)):
        yield _item(context, "reference", path, "an average that no later round goes on from")


def _jobs(context: RunContext) -> Iterator[Item]:
    finished = context.store.query(
        "select round, stage, fingerprint[:8] as job from stages where status = 'done' "
        "union select round, stage, fingerprint[:8] from archived_stages where status = 'done'"
    ).to_pylist()
    done = {(row["round"], row["stage"], row["job"]) for row in finished}
    for path in sorted(context.workspace.jobs.glob("*")):
        name = _JOB.fullmatch(path.name)
        if name is not None and (int(name[1]), name[2], name[3]) in done:
            yield _item(context, "job", path, "scratch of a stage that is done")


def _old(context: RunContext, older_than: float) -> Iterator[Item]:
    workspace, limit = context.workspace, time.time() - older_than
    logs = [path for path in sorted(workspace.logs.glob("*.log")) if path.stat().st_mtime <= limit]
    if logs:
        names = tuple(str(path.relative_to(workspace.path)) for path in logs)
        size = sum(path.stat().st_size for path in logs)
        yield Item("log", f"{len(logs)} files in {workspace.logs.name}", "older than --older-than", size, names)
    files = [path for path in workspace.prefect.rglob("*") if path.is_file()]
    if files and max(path.stat().st_mtime for path in files) <= limit:
        yield _item(context, "prefect", workspace.prefect, "history of Prefect's embedded server")


def _weights(context: RunContext) -> Iterator[Item]:
    for round, row in retention.checkpoints(context).items():
        folder = context.workspace.path / row.path
        record = kept.read(folder)
        if record is not None and record.form != "approximate":
            left = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            if left:
                yield Item("weights", f"M{round}", f"{record.why}; a kill left them behind", left)
    for change in retention.allowed(context, newest_round(context)):
        what = "removed" if change.form == "removed" else f"kept as {change.form}"
        yield Item("weights", f"M{change.round}", f"{what} by {change.why}", change.n_bytes)


def _branches(context: RunContext) -> Iterator[Item]:
    for row in context.store.query("select branch, detail from branches order by created_at").to_pylist():
        folders = _branch_folders(context, row["branch"])
        size = sum(folder_bytes(folder) for folder in folders)
        weights = f" and {len(folders)} checkpoints" if folders else ""
        yield Item("branch", row["branch"], f"its archived rows{weights} ({row['detail']})", size)


def _store(context: RunContext) -> Iterator[Item]:
    free = reclaimable_bytes(context.workspace.store_path)
    size = context.workspace.store_path.stat().st_size
    if free >= max(_WORTH_COMPACTING, _WORTH_COMPACTING_SHARE * size):
        yield Item("store", context.workspace.store_path.name, "room of deleted rows", free)


def _named_folders(context: RunContext, without_branch: str | None = None) -> set[Path]:
    """Checkpoint folders that a row names, of the present history or of a branch."""
    rows = context.store.query(
        "select path from checkpoints union select path from archived_checkpoints where branch is distinct from ?",
        (without_branch,),
    ).to_pylist()
    return {(context.workspace.path / row["path"]).resolve() for row in rows}


def _branch_folders(context: RunContext, branch: str) -> list[Path]:
    """Folders that only this branch names, that are the run's own, and that no other run was forked from."""
    rows = context.store.query("select round, path from archived_checkpoints where branch = ?", (branch,)).to_pylist()
    points = set(retention.fork_points(context.workspace).values())
    others = _named_folders(context, without_branch=branch)
    own = context.workspace.checkpoints.resolve()
    found = []
    for row in rows:
        folder = (context.workspace.path / row["path"]).resolve()
        if folder.parent == own and folder.is_dir() and folder not in others and not points & {row["round"], None}:
            found.append(folder)
    return found


def _item(context: RunContext, kind: Kind, path: Path, why: str) -> Item:
    name = str(path.relative_to(context.workspace.path))
    return Item(kind, name, why, folder_bytes(path), (name,))


# -- removing ------------------------------------------------------------------------------------


def _reduce(context: RunContext) -> dict[str, int]:
    """Model -> bytes freed; all at once, as one checkpoint's form depends on the others'."""
    folders = {f"M{round}": context.workspace.path / row.path for round, row in retention.checkpoints(context).items()}
    before = {name: folder_bytes(folder) for name, folder in folders.items()}
    retention.reduce_checkpoints(context, newest_round(context))
    return {name: before[name] - folder_bytes(folder) for name, folder in folders.items()}


def _remove_path(path: Path) -> int:
    size = folder_bytes(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return size


def _remove_branch(context: RunContext, branch: str) -> int:
    # Hidden first: a kill then leaves what the next gc takes for half-written, and the branch is still listed.
    hidden = []
    for folder in _branch_folders(context, branch):
        aside = folder.with_name(f".{folder.name}.{branch}.partial")
        folder.rename(aside)
        hidden.append(aside)
    with context.store.write() as transaction:
        for table in archived_tables(transaction.connection):
            transaction.execute(f"delete from {table} where branch = ?", [branch])
        transaction.execute("delete from branches where branch = ?", [branch])
    return sum(_remove_path(aside) for aside in hidden)
