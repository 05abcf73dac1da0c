"""What the config's ``keep`` section makes of each checkpoint. Pure: rows in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.config import KeepSettings
from selfalign.disk.kept import Form

Present = Form | Literal["full"]


@dataclass(frozen=True)
class Held:
    """A checkpoint as it lies on disk. ``value`` is its held-out figure of ``keep.metric``."""

    round: int
    form: Present
    #: It has an adapter that is known to give the same weights again.
    adapter: bool = False
    value: float | None = None
    #: The round whose weights the adapter is added to; the one before, unless an adapter goes on over rounds.
    base: int | None = None

    @property
    def built_on(self) -> int:
        return self.round - 1 if self.base is None else self.base


@dataclass(frozen=True)
class Change:
    """What a checkpoint is to become, and by which setting."""

    round: int
    form: Literal["removed", "adapter", "bitdelta"]
    why: str


def decide(keep: KeepSettings, held: Sequence[Held], needed: Mapping[int, str]) -> list[Change]:
    """Changes, latest round first, which is also the order to make them in.

    Args:
        needed: rounds whose weights must stay whole, with the reason.

    A checkpoint that a later one is rebuilt from stays rebuildable, whatever else is set.
    """
    chosen = _chosen(keep, held)
    rebuildable = _rebuildable(held)
    changes: list[Change] = []
    dependents: dict[int, int] = {}
    for item in sorted(held, key=lambda h: -h.round):
        change = None
        if item.round not in needed:
            base_rebuildable = rebuildable.get(item.built_on, item.built_on == 0)
            change = _wanted(keep, item, item.round in chosen, base_rebuildable)
            if item.round in dependents and change is not None and change.form != "adapter":
                change = _for_the_sake_of(dependents[item.round], item, change, base_rebuildable)
        if change is not None:
            changes.append(change)
        form = change.form if change else item.form
        if form == "adapter":
            dependents[item.built_on] = item.round
    return changes


def _chosen(keep: KeepSettings, held: Sequence[Held]) -> set[int]:
    """Rounds whose weights are to be kept in some form."""
    there = [h for h in held if h.form != "removed"]
    if keep.checkpoints == "last":
        return set(sorted(h.round for h in there)[-keep.last :])
    if keep.checkpoints == "best":
        measured = sorted((h for h in there if h.value is not None), key=lambda h: (h.value or 0.0, h.round))
        return {h.round for h in measured[-keep.best :]}
    return {h.round for h in there}


def _wanted(keep: KeepSettings, item: Held, chosen: bool, base_rebuildable: bool) -> Change | None:
    if item.form == "removed":
        return None
    if not chosen:
        return Change(item.round, "removed", _setting(keep))
    if item.form not in ("full", "approximate"):
        return None
    if keep.form == "adapter" and item.form == "full" and item.adapter and base_rebuildable:
        return Change(item.round, "adapter", "keep.as=adapter")
    if keep.form == "bitdelta":
        return Change(item.round, "bitdelta", "keep.as=bitdelta")
    return None


def _for_the_sake_of(dependent: int, item: Held, change: Change, base_rebuildable: bool) -> Change | None:
    if item.form == "full" and item.adapter and base_rebuildable:
        return Change(item.round, "adapter", f"{change.why}; M{dependent} is rebuilt from it")
    return None


def _rebuildable(held: Sequence[Held]) -> dict[int, bool]:
    """Round -> whether its exact weights are there, or can be had from those before it."""
    found: dict[int, bool] = {}
    for item in sorted(held, key=lambda h: h.round):
        before = found.get(item.built_on, item.built_on == 0)
        found[item.round] = item.form == "full" or (item.form == "adapter" and before)
    return found


def _setting(keep: KeepSettings) -> str:
    return f"keep.last={keep.last}" if keep.checkpoints == "last" else f"keep.best={keep.best} by {keep.metric}"
