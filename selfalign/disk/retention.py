"""Applies the ``keep`` section: which weights stay, in which form, and how to have them again.

Whatever replaces weights is on disk, flushed and checked, before they go; then the record of what
became of them (``kept.json`` and an event row) is written; then they go. A kill in between leaves the
record and the weights: the next call finishes. Rows of the store are never touched.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.disk import kept, references
from selfalign.disk.kept import Kept
from selfalign.disk.policy import Change, Held, Present, decide
from selfalign.durable import sync, write_atomic
from selfalign.errors import BadInput, ModelError, WeightsNotKept
from selfalign.identity import canonical, content_id, hash_weights
from selfalign.space import folder_bytes
from selfalign.stages.context import RunContext
from selfalign.training import adapters, bitdelta
from selfalign.training.checkpoints import check_disk, fsync_folder, headers
from selfalign.types import Checkpoint, Event
from selfalign.workspace import Workspace

#: In an adapter's folder: whether parent and adapter were seen to give the checkpoint's weights again.
_VERDICT = "verified.json"


@dataclass(frozen=True)
class Reduced:
    """A checkpoint that was, or would be, reduced. ``n_bytes`` is what that frees, estimated beforehand."""

    round: int
    form: str
    why: str
    path: Path
    n_bytes: int


@dataclass(frozen=True)
class Restored:
    """``exact``: the weights are those that were trained, by their hash."""

    round: int
    path: Path
    weights_hash: str
    exact: bool


def apply_retention(context: RunContext, round: int) -> list[Reduced]:
    """Reduce what the config allows once ``round`` has ended. Safe to repeat and to be killed in.

    Raises:
        DiskFull: no room for what would replace the weights; they stay.
    """
    keep = context.config.keep
    whole = keep.checkpoints == "all" and keep.form == "full"
    reduced = [] if whole else reduce_checkpoints(context, round)
    references.remove_superseded(context, round)
    return reduced


def reduce_checkpoints(context: RunContext, newest: int) -> list[Reduced]:
    """As :func:`apply_retention`, also finishing what an earlier policy had begun."""
    finish_interrupted(context)
    _verify_adapters(context)
    changes = decide(context.config.keep, held(context), needed_rounds(context, newest))
    return [_reduce(context, change) for change in changes]


def allowed(context: RunContext, newest: int) -> list[Reduced]:
    """What :func:`reduce_checkpoints` would do if every adapter rebuilds its weights; changes nothing."""
    found = []
    hopeful = held(context, unverified=True)
    for change in decide(context.config.keep, hopeful, needed_rounds(context, newest)):
        folder = checkpoint_folder(context, change.round)
        whole = folder_bytes(folder)
        left = 0
        if change.form == "adapter":
            left = folder_bytes(folder / adapters.FOLDER)
        elif change.form == "bitdelta":
            left = _compressed_bytes(folder)
        found.append(Reduced(change.round, change.form, change.why, folder, max(whole - left, 0)))
    return found


def checkpoints(context: RunContext) -> dict[int, Checkpoint]:
    """Round -> the checkpoint of the run's present history; M_0 is not the run's own."""
    return {row.round: row for row in context.store.rows(Checkpoint, "round >= 1")}


def checkpoint_folder(context: RunContext, round: int) -> Path:
    """Raises BadInput where the run has no such checkpoint."""
    row = checkpoints(context).get(round)
    if row is None:
        raise BadInput(f"{context.workspace.path}: has no checkpoint of round {round}; see: selfalign checkpoints list")
    return context.workspace.path / row.path


def held(context: RunContext, *, unverified: bool = False) -> list[Held]:
    """Every checkpoint as it lies on disk now; with ``unverified``, adapters count before they were tried."""
    values = _values(context)
    found = []
    for round, row in sorted(checkpoints(context).items()):
        folder = context.workspace.path / row.path
        record = kept.read(folder)
        form: Present = record.form if record else "full"
        verdict = _verdict(folder)
        usable = verdict is True or (unverified and verdict is None and adapters.is_there(folder))
        found.append(Held(round, form, usable, values.get(round), _built_on(context, round)))
    return found


def needed_rounds(context: RunContext, newest: int) -> dict[int, str]:
    """Rounds whose weights must stay whole, with the reason. ``newest`` is the last round that has ended."""
    rows = checkpoints(context)
    reasons = {round: "the newest weights, which the next round starts from" for round in rows if round >= newest}
    own = context.workspace.checkpoints.resolve()
    for round, row in rows.items():
        if own not in (context.workspace.path / row.path).resolve().parents:
            reasons[round] = "the folder belongs to another run"
    if rows and stacks(context.config, max(rows) + 1):
        last = max(rows)
        reasons.setdefault(_built_on(context, last), f"the adapter of M{last} goes on over it")
    reasons = {**references.needed_rounds(context, newest), **reasons}
    for name, point in fork_points(context.workspace).items():
        for round in rows if point is None else [point]:
            reasons[round] = f"the run {name} was forked from it"
    return reasons


def stacks(config: RunConfig, round: int) -> bool:
    """Whether ``round`` goes on with the adapter of the round before."""
    train = config.trainer(round)
    return bool(getattr(train, "low_rank", False) and train.lora.chain == "stack")


def fork_points(workspace: Workspace) -> dict[str, int | None]:
    """Name of each run that was forked from this one -> the round; None, for any round, where the marker is unreadable."""
    found: dict[str, int | None] = {}
    for path in sorted((workspace.state / "forks").glob("*.json")):
        try:
            found[path.stem] = int(json.loads(path.read_text(encoding="utf-8"))["round"])
        except (OSError, ValueError, KeyError, TypeError):
            found[path.stem] = None
    return found


def finish_interrupted(context: RunContext) -> None:
    """Remove weights that a record says are gone, and that a kill left behind."""
    for row in checkpoints(context).values():
        folder = context.workspace.path / row.path
        if (record := kept.read(folder)) is not None:
            _drop(folder, record)


# -- reducing ------------------------------------------------------------------------------------


def _values(context: RunContext) -> Mapping[int, float]:
    rows = context.store.query(
        "select round, value from evaluations where metric = ? and split = 'held_out' and value is not null",
        (context.config.keep.metric,),
    ).to_pylist()
    return {row["round"]: row["value"] for row in rows}


def _verify_adapters(context: RunContext) -> None:
    """Hold every new adapter against its checkpoint, while the weights below it are still there to do it with."""
    if context.config.keep.form != "adapter":
        return
    for round, row in sorted(checkpoints(context).items()):
        folder = context.workspace.path / row.path
        if kept.read(folder) or not adapters.is_there(folder) or _verdict(folder) is not None:
            continue
        base = context.model(_built_on(context, round))
        if base.absent:
            continue
        try:
            same = adapters.rebuilt_hash(base.path, folder) == row.weights_hash
        except ModelError as error:
            same = False
            context.reporter.note(f"M{round} is kept whole: {error}")
        write_atomic(folder / adapters.FOLDER / _VERDICT, json.dumps({"rebuilds": same}))


def _built_on(context: RunContext, round: int) -> int:
    """The round whose weights M_round's adapter is added to; the one before, where there is none or it does not say."""
    found = adapters.origin(checkpoint_folder(context, round))
    earlier = context.round_with(found.weights_hash, before=round) if found is not None else None
    return round - 1 if earlier is None else earlier


def _verdict(folder: Path) -> bool | None:
    try:
        return bool(json.loads((folder / adapters.FOLDER / _VERDICT).read_text(encoding="utf-8"))["rebuilds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reduce(context: RunContext, change: Change) -> Reduced:
    row = checkpoints(context)[change.round]
    folder = context.workspace.path / row.path
    before = folder_bytes(folder)
    record = Kept(change.round, change.form, change.why, row.weights_hash)
    figures: dict[str, object] = {"form": change.form, "why": change.why, "path": row.path}
    if change.form == "bitdelta":
        previous = kept.read(folder)
        if previous is None:  # else it is an approximation whose compressed form is still there
            report = _compress(context, folder)
            figures |= {"weight_error": report.weight_error, "delta_error": report.delta_error}
            record = Kept(change.round, "bitdelta", change.why, row.weights_hash, report.restored_hash)
        else:
            record = Kept(change.round, "bitdelta", change.why, row.weights_hash, previous.restored_hash)
    kept.write(folder, record)
    kind = "removed" if change.form == "removed" else "compressed"
    _tell(context, kind, record, kept.explain(record, context.workspace.path), figures)
    _drop(folder, record)
    context.forget(change.round)
    freed = max(before - folder_bytes(folder), 0)
    context.reporter.note(f"M{change.round}: weights {kind} by {change.why}")
    return Reduced(change.round, change.form, change.why, folder, freed)


def _compress(context: RunContext, folder: Path) -> bitdelta.Report:
    """Durable beside the weights when this returns."""
    aside, final = folder / f".{bitdelta.FOLDER}.partial", folder / bitdelta.FOLDER
    for leftover in (aside, final):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        report = bitdelta.compress(context.model(0).path, folder, aside / bitdelta.FILE)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync_folder(aside)
    aside.rename(final)
    sync(folder)
    return report


def _compressed_bytes(folder: Path) -> int:
    """About what ``folder``'s weights take as bitdelta: one bit where that is possible, the bytes as they are elsewhere."""
    total = 0.0
    for name, entry in headers(folder):
        begin, end = entry["data_offsets"]
        total += math.prod(entry["shape"]) / 8 if bitdelta.is_signed(name, entry["shape"]) else end - begin
    return int(total)


def _drop(folder: Path, record: Kept) -> None:
    """Remove what the record says is gone; nothing where that was done."""
    if record.form == "approximate":
        return
    gone = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    for file in gone:
        file.unlink()
    for name, form in ((adapters.FOLDER, "adapter"), (bitdelta.FOLDER, "bitdelta")):
        if record.form != form:
            shutil.rmtree(folder / name, ignore_errors=True)
    if gone:
        sync(folder)


def _tell(context: RunContext, kind: str, record: Kept, message: str, detail: Mapping[str, object]) -> None:
    identity = content_id("retention", kind, record.round, record.form, record.weights_hash)
    subject = record.weights_hash
    context.store.insert([Event(identity, record.round, None, kind, subject, message, canonical(dict(detail)))])


# -- restoring -----------------------------------------------------------------------------------


def restore(context: RunContext, round: int, folder: Path | None = None) -> Restored:
    """Put M_round's weights back into its own folder, or write all of it to the new folder ``folder``.

    Raises:
        BadInput: there is no such checkpoint, its weights cannot be had again, or ``folder`` is not empty.
        DiskFull: no room.
    """
    home = checkpoint_folder(context, round)
    record = kept.read(home)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: is not empty; name a new folder")
    if record is not None and record.form == "removed":
        raise WeightsNotKept(kept.explain(record, context.workspace.path))
    if folder is None and (record is None or record.form == "approximate"):
        return Restored(round, home, hash_weights(home), record is None)
    check_disk(folder or home, _restoring_needs(context, round))
    target = folder or home
    aside = target.with_name(f".{target.name}.restored.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        weights_hash, exact = _weights_into(context, round, aside)
        if folder is not None:
            _copy_rest(home, aside)
            fsync_folder(aside)
            if folder.exists():
                folder.rmdir()
            aside.rename(folder)
            sync(folder.parent)
        elif record is not None:
            _put_back(context, home, aside, record, exact)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Restored(round, target, weights_hash, exact)


def _put_back(context: RunContext, home: Path, aside: Path, record: Kept, exact: bool) -> None:
    fsync_folder(aside)
    for file in aside.glob("*.safetensors"):
        file.replace(home / file.name)
    sync(home)
    if exact:
        (home / kept.RECORD).unlink()
        sync(home)
    else:
        kept.write(home, Kept(record.round, "approximate", record.why, record.weights_hash, record.restored_hash))
    _tell(
        context, "restored", record, f"the weights of M{record.round} were restored from {record.form}",
        {"exact": exact, "from": record.form},
    )  # fmt: skip
    context.forget(record.round)


def _weights_into(context: RunContext, round: int, target: Path) -> tuple[str, bool]:
    """Write M_round's weights into the folder ``target``; returns their hash and whether they are exact.

    Raises:
        WeightsNotKept: they, or those that they are rebuilt from, are gone.
    """
    home = checkpoint_folder(context, round)
    record = kept.read(home)
    if record is None or record.form == "approximate":
        for pattern in ("*.safetensors", "*.safetensors.index.json"):
            for file in home.glob(pattern):
                shutil.copyfile(file, target / file.name)
        return hash_weights(target), record is None
    if record.form == "bitdelta":
        base = context.model(0).path
        return bitdelta.restore(base, home / bitdelta.FOLDER / bitdelta.FILE, target / "model.safetensors"), False
    if record.form == "removed":
        raise WeightsNotKept(kept.explain(record, context.workspace.path))
    with _base(context, _built_on(context, round)) as base:
        adapters.rebuild(base, home, target / "model.safetensors")
    found = hash_weights(target)
    if found != record.weights_hash:
        raise WeightsNotKept(
            f"{home}: its adapter gives weights {found[:12]}, M{round} had {record.weights_hash[:12]} (another "
            f"kind of processor, or other software?); restore them on the machine that trained them"
        )
    return found, True


@contextmanager
def _base(context: RunContext, round: int) -> Iterator[Path]:
    """The folder with M_round's weights, rebuilt for the moment where they are but an adapter themselves."""
    if round == 0 or kept.read(checkpoint_folder(context, round)) is None:
        yield context.model(round).path
        return
    home = checkpoint_folder(context, round)
    aside = home.with_name(f".{home.name}.restored.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _, exact = _weights_into(context, round, aside)
        if not exact:
            raise WeightsNotKept(f"an adapter is added to M{round}, of which only an approximation is left")
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _restoring_needs(context: RunContext, round: int) -> int:
    """Bytes: the weights, and once more for a parent that must be rebuilt meanwhile."""
    size = max((row.n_bytes for row in checkpoints(context).values()), default=0)
    chain = 0
    while round > 0 and (record := kept.read(checkpoint_folder(context, round))) and record.form == "adapter":
        chain, round = chain + 1, _built_on(context, round)
    # Parents are rebuilt one inside the other, from the oldest on.
    return size * max(chain, 1)


def _copy_rest(home: Path, target: Path) -> None:
    """Config, tokenizer and templates: what makes the weights a model folder; not what the run noted there."""
    for path in home.iterdir():
        noted = path.name in (kept.RECORD, "selfalign.json", "history.json", adapters.FOLDER, bitdelta.FOLDER)
        if noted or path.name.startswith(".") or path.suffix == ".safetensors" or path.name.endswith(".index.json"):
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
