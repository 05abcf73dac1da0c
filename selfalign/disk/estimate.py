"""What a run will write from now to its end, and whether there is room for it.

Figures are upper estimates: weights are known to the byte, rows by their likely length. The embedded
model's own download is checked where it is fetched, before this.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfalign.disk import references, retention
from selfalign.disk.policy import Held, decide
from selfalign.errors import BadInput, StoreError
from selfalign.filler import MEAN_ANSWER_SHARE
from selfalign.preflight import Preflight
from selfalign.space import folder_bytes, free_bytes, nearest_existing, shown
from selfalign.stages.context import RunContext
from selfalign.training import average
from selfalign.training.bitdelta import is_signed
from selfalign.training.settings import TrainingSettings
from selfalign.training.sizes import Shapes, adapter_weights
from selfalign.training.sizes import shapes as stored_shapes
from selfalign.work import StageWork, run_work

#: An empty store, its blocks of 256 kB and more a column, once a round's rows are in.
_STORE_BYTES = 7 << 20
#: Text, token ids and the rest of a candidate and a judgement of it, in the store's compressed columns.
_BYTES_A_TOKEN, _BYTES_A_CANDIDATE = 12, 2000
#: What a judge wrote (text alone), the rest of its row, and a row of what is taught; measured on random words.
_BYTES_A_WRITTEN_TOKEN, _BYTES_A_JUDGEMENT, _BYTES_A_LESSON = 5, 600, 2000
#: Prefect's embedded server: its database and write-ahead log.
_PREFECT_BYTES, _PREFECT_BYTES_A_ROUND = 8 << 20, 1 << 17
_LOG_BYTES_A_ROUND = 1 << 14
#: Weights and Adam's two moments in float32, and the state before, which goes only after the new one is whole.
_STATE_BYTES_A_WEIGHT = 2 * 3 * 4


@dataclass(frozen=True)
class Need:
    """Bytes below ``path``: ``peak`` at the worst moment, ``kept`` at the run's end; both beyond what is there now."""

    what: str
    path: Path
    peak: int
    kept: int


def needs(context: RunContext, found: Preflight) -> list[Need]:
    """What is still to be written; rounds that have ended need nothing."""
    workspace, config = context.workspace, context.config
    ended, trained = _progress(context)
    rounds = [round for round in range(1, config.rounds + 1) if round not in ended]
    if not rounds and 0 in ended:
        return []
    shapes = stored_shapes(found.model_path)
    training = [round for round in rounds if round not in trained]
    peak, kept = _checkpoints(context, found, shapes, training)
    rows = _rows(context, found, [round for round in range(config.rounds + 1) if round not in ended])
    store = (0 if workspace.store_path.exists() else _STORE_BYTES) + sum(rows.values())
    lines = [
        Need(f"checkpoints of {len(training)} rounds", workspace.checkpoints, peak, kept),
        _averages(context, found, training),
        Need("trainer states", workspace.jobs, max((_states(context, r, shapes) for r in training), default=0), 0),
        Need("rows", workspace.store_path, store, store),
        # A stage's inputs and its batches, of which one round's worth may wait.
        Need("scratch of a stage", workspace.jobs, 2 * max(rows.values(), default=0), 0),
        Need("logs", workspace.logs, _LOG_BYTES_A_ROUND * len(rounds), _LOG_BYTES_A_ROUND * len(rounds)),
    ]
    if "PREFECT_API_URL" not in os.environ:
        there = folder_bytes(workspace.prefect)
        prefect = max(_PREFECT_BYTES + _PREFECT_BYTES_A_ROUND * config.rounds - there, 0)
        lines.append(Need("Prefect's embedded server", workspace.prefect, prefect, prefect))
    return [line for line in lines if line.peak > 0]


def check_room(context: RunContext, found: Preflight) -> None:
    """Hold :func:`needs` against what is free.

    Raises:
        BadInput: a file system has too little; the line says what needs how much, and what could be changed.
    """
    if problem := shortage(context, needs(context, found)):
        raise BadInput(problem)


def shortage(context: RunContext, lines: Sequence[Need]) -> str | None:
    """One line about the first file system that cannot hold its part of ``lines``, or None."""
    for members in by_file_system(lines).values():
        total = sum(line.peak for line in members)
        free = free_bytes(members[0].path)
        if total > free:
            biggest = sorted(members, key=lambda line: -line.peak)[:3]
            parts = ", ".join(f"{line.what} {shown(line.peak)}" for line in biggest)
            return (
                f"{nearest_existing(members[0].path)}: the run will need up to {shown(total)} more on this disk ({parts}), "
                f"{shown(free)} are free; free {shown(total - free)}, or {_advice(context, members)}"
            )
    return None


def by_file_system(lines: Sequence[Need]) -> Mapping[int, list[Need]]:
    """``lines`` by the device that their paths are, or will be, on."""
    found: dict[int, list[Need]] = {}
    for line in lines:
        found.setdefault(nearest_existing(line.path).stat().st_dev, []).append(line)
    return found


def _advice(context: RunContext, members: Sequence[Need]) -> str:
    config = context.config
    ways = []
    biggest = max(members, key=lambda line: line.peak)
    if biggest.path == context.workspace.checkpoints and config.keep.checkpoints == "all" and config.rounds > 1:
        ways.append("set keep.checkpoints: last (or keep.as: bitdelta)")
    if any(line.what == "trainer states" for line in members):
        ways.append("leave train.save_every unset")
    return ", or ".join([*ways, "put the workspace on another disk (workspace: DIR)"])


def _progress(context: RunContext) -> tuple[set[int], set[int]]:
    """Rounds that have ended, and rounds whose weights are there."""
    if not context.workspace.store_path.exists():
        return set(), set()
    with contextlib.suppress(StoreError):  # of an older version: counted as if nothing were done
        ended = context.store.query("select round from rounds where status = 'done'")["round"].to_pylist()
        return set(ended), set(retention.checkpoints(context))
    return set(), set()


# -- rows ----------------------------------------------------------------------------------------


def _rows(context: RunContext, found: Preflight, rounds: Sequence[int]) -> dict[int, int]:
    """Bytes in the store by round."""
    return {
        round: sum(map(_stage_bytes, like.stages))
        for like in run_work(context, found)
        for round in like.rounds
        if round in rounds
    }


def _stage_bytes(work: StageWork) -> int:
    written = math.ceil(work.sampled / MEAN_ANSWER_SHARE)
    if work.stage in ("generate", "answer"):
        return written * _BYTES_A_TOKEN + work.rows * _BYTES_A_CANDIDATE
    if work.stage == "lessons":
        return work.rows * _BYTES_A_LESSON
    judgements = sum(judge.rows for judge in work.judges)
    return written * _BYTES_A_WRITTEN_TOKEN + judgements * _BYTES_A_JUDGEMENT


# -- weights -------------------------------------------------------------------------------------


def _checkpoints(context: RunContext, found: Preflight, shapes: Shapes, training: Sequence[int]) -> tuple[int, int]:
    """(peak, kept at the end) in bytes beyond what is there now: the policy played through, round by round."""
    config = context.config
    state: dict[int, Held] = {}
    points: set[int | None] = set()
    if training and training[0] > 1:
        with contextlib.suppress(StoreError):
            state = {held.round: held for held in retention.held(context)}
            points = set(retention.fork_points(context.workspace).values())

    sizes = {round: _sizes(context, found, round, shapes) for round in {*state, *training}}

    def total() -> int:
        return sum(sizes[held.round]["full" if held.form == "approximate" else held.form] for held in state.values())

    before, peak = total(), 0
    averages: dict[float, int] = {}
    for round in training:
        peak = max(peak, total() + sizes[round]["full"] - before)
        adapter = bool(getattr(config.trainer(round), "low_rank", False))
        base = 0 if config.start_round(round) == 0 or retention.stacks(config, round) else None
        # As if every new round were worse than those before: then the best ones and the newest are most.
        state[round] = Held(round, "full", adapter, -float(round), base)
        if (ema := references.decay(config, round)) is not None:
            averages[ema] = round
        averaged = references.needed_models(references.later_decays(config, round), averages, round)
        needed = {r: "" for r in state if r == round or r in averaged or r in points or None in points}
        for change in decide(config.keep, list(state.values()), needed):
            if change.form == "bitdelta":  # written before the weights go
                peak = max(peak, total() + sizes[change.round]["bitdelta"] - before)
            state[change.round] = replace(state[change.round], form=change.form)
    return peak, max(total() - before, 0)


def _averages(context: RunContext, found: Preflight, training: Sequence[int]) -> Need:
    """The averages that rounds are compared with: the one before goes when a round has ended."""
    folder = context.workspace.references
    there = folder_bytes(folder) if folder.is_dir() else 0
    made = [round for round in training if references.decay(context.config, round) is not None]
    size = average.size(found.model_path) + max(folder_bytes(found.model_path) - found.model.bytes, 0)
    at_once = min(len(made) + bool(there), 2) * size if made else there
    return Need("averaged references", folder, max(at_once - there, 0), max(size - there, 0) if made else 0)


def _sizes(context: RunContext, found: Preflight, round: int, shapes: Shapes) -> dict[str, int]:
    """Bytes of the folder of M_round in each form."""
    whole = folder_bytes(found.model_path)
    width = found.model.bytes / max(found.model.parameters, 1)
    rest = max(whole - found.model.bytes, 0)
    signed = sum(math.prod(shape) for name, shape in shapes.items() if is_signed(name, shape))
    adapter = 4 * _adapter_weights(context, round, shapes, kept=True)
    return {
        "full": whole + adapter,
        "adapter": rest + adapter,
        "bitdelta": rest + int(signed / 8 + (found.model.parameters - signed) * width),
        "removed": rest,
    }


def _states(context: RunContext, round: int, shapes: Shapes) -> int:
    # With "auto" a state is left out where the disk has no room for it.
    if not isinstance(getattr(context.config.trainer(round), "save_every", None), int):
        return 0
    weights = _adapter_weights(context, round, shapes) or sum(math.prod(shape) for shape in shapes.values())
    return _STATE_BYTES_A_WEIGHT * weights


def _adapter_weights(context: RunContext, round: int, model: Shapes, *, kept: bool = False) -> int:
    """Weights of a round's adapter; 0 where there is none, or where a trainer from elsewhere does not say."""
    train = context.config.trainer(round)
    return adapter_weights(train, model, kept=kept) if isinstance(train, TrainingSettings) else 0
