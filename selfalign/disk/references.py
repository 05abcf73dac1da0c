"""Averages of a run's models that rounds are compared with (train.reference: {ema: DECAY}): from what, kept how long.

The average for round t is of M_0 ... M_{t-1}, with the decay of round t. It can be made again from these at any time,
or from an earlier average with the same decay and the models since: so an average takes the place of the models that
are in it, as far as later rounds go. Those that no later round can go on from are removed when a round has ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.errors import ModelError, WeightsNotKept
from selfalign.stages.context import RunContext
from selfalign.training.average import Source, folder_name, identity, read_manifest
from selfalign.training.settings import Average


@dataclass(frozen=True)
class Recipe:
    """How the average for a round is made: what it goes on from, and the models to add, oldest first."""

    folder: Path
    ema: float
    models: tuple[str, ...]
    below: Source
    added: tuple[Source, ...]


def decay(config: RunConfig, round: int) -> float | None:
    """The decay of the average that ``round`` is compared with; None where it is compared with a model, or with none.

    In round 1 the average is M_0 itself.
    """
    reference = getattr(config.trainer(round), "reference", None)
    return reference.ema if isinstance(reference, Average) and round > 1 else None


def average_id(context: RunContext, round: int, ema: float) -> str:
    """What the average for ``round`` is, by the store alone."""
    return identity(ema, _models(context, round))


def recipe(context: RunContext, round: int, ema: float) -> Recipe:
    """How to make the average for ``round``.

    Raises:
        WeightsNotKept: a model that it needs is gone.
    """
    models = _models(context, round)
    first, below = 1, None
    for earlier in range(round, 1, -1):  # from ``round`` itself on: what an attempt before made
        if (folder := _intact(context, earlier, ema, models[:earlier])) is not None:
            first, below = earlier, Source(folder, context.workspace.weights_hash(folder))
            break
    try:
        below = below or _source(context, 0)
        added = tuple(_source(context, number) for number in range(first, round))
    except WeightsNotKept as error:
        raise WeightsNotKept(
            f"round {round} is compared with an average of M0 to M{round - 1} (train.reference), which cannot be made: "
            f"{error}"
        ) from None
    folder = context.workspace.references / folder_name(round, ema, models)
    return Recipe(folder, ema, tuple(models), below, added)


def check(context: RunContext, round: int) -> None:
    """Raise WeightsNotKept now where the average for ``round`` could not be made once it is to be trained."""
    ema = decay(context.config, round)
    if ema is not None:
        recipe(context, round, ema)


def later_decays(config: RunConfig, newest: int) -> set[float]:
    """Decays of the averages that rounds after ``newest`` are compared with; the next one counts even if it is the last."""
    alike_from = max(len(config.different_rounds()), max(config.teach.rounds, default=0) + 1, newest + 1)
    last = min(alike_from, max(config.rounds, newest + 1))
    found = (decay(config, round) for round in range(newest + 1, last + 1))
    return {ema for ema in found if ema is not None}


def needed_models(later: Iterable[float], made: Mapping[float, int], newest: int) -> set[int]:
    """Rounds up to ``newest`` whose models go into averages of later rounds. Pure.

    Args:
        later: the decays of those averages.
        made: decay -> the latest round whose average is there to go on from.
    """
    return {number for ema in later for number in range(made.get(ema, 1), newest + 1)}


def needed_rounds(context: RunContext, newest: int) -> dict[int, str]:
    """Rounds whose weights later averages are made of, with the reason."""
    later = later_decays(context.config, newest)
    made = {ema: round for ema, (round, _) in _going_on_from(context, later, newest).items()}
    needed = needed_models(later, made, newest)
    return dict.fromkeys(sorted(needed), "the average that a later round is compared with is made of it")


def superseded(context: RunContext, newest: int) -> list[Path]:
    """Averages that are there, and that no round after ``newest`` goes on from."""
    root = context.workspace.references
    if not root.is_dir():
        return []
    going_on = _going_on_from(context, later_decays(context.config, newest), newest)
    kept = {folder for _, folder in going_on.values()}
    return [path for path in sorted(root.glob("round-*")) if path not in kept]


def remove_superseded(context: RunContext, newest: int) -> None:
    """Remove :func:`superseded`. A kill in between leaves what the next round's end removes."""
    for path in superseded(context, newest):
        shutil.rmtree(path, ignore_errors=True)


def _going_on_from(context: RunContext, later: Iterable[float], newest: int) -> dict[float, tuple[int, Path]]:
    """Decay -> the latest average with it that later rounds can go on from: its round and folder."""
    wanted = set(later)
    if not wanted or not context.workspace.references.is_dir():
        return {}
    # Not ``newest``: it may be an earlier round, of which a stage was made again, and the next one may have begun.
    trained = context.store.query("select max(round) as t from rounds where weights_hash is not null")["t"][0].as_py()
    latest = max(newest, trained or 0) + 1
    models = _models(context, latest)
    found = {}
    for ema in wanted:
        for round in range(latest, 1, -1):
            if (folder := _intact(context, round, ema, models[:round])) is not None:
                found[ema] = (round, folder)
                break
    return found


def _models(context: RunContext, round: int) -> Sequence[str]:
    """Hashes of M_0 ... M_{round-1}."""
    return [context.weights(number).weights_hash for number in range(round)]


def _source(context: RunContext, round: int) -> Source:
    model = context.model(round)
    return Source(model.path, model.weights_hash)


def _intact(context: RunContext, round: int, ema: float, models: Sequence[str]) -> Path | None:
    """The folder with the average for ``round`` of ``models``, if it is there whole."""
    folder = context.workspace.references / folder_name(round, ema, models)
    manifest = read_manifest(folder)
    if manifest is None or manifest.identity != identity(ema, models):
        return None
    try:
        whole = context.workspace.weights_hash(folder) == manifest.weights_hash
    except (ModelError, OSError):
        return None
    return folder if whole else None
