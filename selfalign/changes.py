"""What a changed config, prompt file or model means for a run that has begun: which stages no longer stand.

Whether a stage stands is decided by its fingerprint alone; the settings that differ are only shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.config import NO_ROWS
from selfalign.errors import WeightsMismatch
from selfalign.rounds import EXAMPLES, fingerprint, in_order, places, takes
from selfalign.stages.context import RunContext
from selfalign.store.branches import Place, in_words


def stale_stages(context: RunContext) -> list[Place]:
    """Stages with rows in the store that today's config would make differently, in order.

    Raises:
        WeightsMismatch: the model's folder holds other weights than it did, under the same name.
    """
    with context.store.read():  # one connection for all the questions
        return _stale_stages(context)


def _stale_stages(context: RunContext) -> list[Place]:
    begun = context.store.query(
        "select round, stage, arg_max(fingerprint, started_at) as fingerprint from stages group by round, stage"
    ).to_pylist()
    made = {(row["round"], row["stage"]): row["fingerprint"] for row in begun}
    if not made:
        return []
    _same_initial_model(context)
    rows = context.store.query("select round, frozen and status = 'done' as frozen from rounds").to_pylist()
    frozen = {row["round"] for row in rows if row["frozen"]}
    wanted = list(places(context.config, max(round for round, _ in made)))
    not_made = set(wanted) - made.keys()
    stale: set[Place] = set()
    for place in wanted:
        if place not in made or place[0] in frozen:
            continue
        # In this order: a fingerprint can only be taken where what the stage works on stands, and is there at all.
        if _rests_on(place, stale, not_made) or fingerprint(context, *place) != made[place]:
            stale.add(place)
    left_out = in_order(place for place in made.keys() - set(wanted) if place[0] not in frozen)
    # Stages that today's config leaves out stay where only a gate looked at them (evaluate.log_ratio: false). They go
    # where their rows are trained on, and where what was made of them is made without them (resample): their rows would
    # tell of candidates left out.
    for place in reversed(left_out):
        if place[1] in EXAMPLES or any(place in takes(*taker) for taker in stale if taker[1] != "gate"):
            stale.add(place)
    return in_order(stale)


def _rests_on(place: Place, stale: set[Place], not_made: set[Place]) -> bool:
    """Whether ``place`` works on a stage that does not stand, or on one of its own round that is yet to be made."""
    inputs = set(takes(*place))
    return bool(inputs & stale) or any(needed[0] == place[0] for needed in inputs & not_made)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key old -> new`` for every leaf that differs."""
    lines = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changed_settings(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key} {_short(old)} -> {_short(new)}")
    return lines


def explain(context: RunContext, stale: Sequence[Place]) -> str:
    """One line: what changed, and which stages that concerns."""
    begun = context.store.get_run()
    before = json.loads(begun["config"]) if begun else {}
    lines = [
        line
        for line in changed_settings(before, context.config.snapshot())
        if line.split()[0].split(".")[0] not in NO_ROWS
    ]
    what = "; ".join(lines[:4]) or "a prompt file, rubric or other input"
    more = f"; and {len(lines) - 4} more" if len(lines) > 4 else ""
    return f"changed since this run began: {what}{more}; made otherwise today: {in_words(stale)}"


def _same_initial_model(context: RunContext) -> None:
    begun = context.store.get_run()
    recorded = context.store.query("select weights_hash from rounds where round = 0").to_pylist()
    if not begun or not recorded or json.loads(begun["config"]).get("model") != context.config.model:
        return
    if recorded[0]["weights_hash"] not in (None, context.initial.weights_hash):
        raise WeightsMismatch(
            f"{context.initial.folder}: these are not the weights that this run began with (hash "
            f"{context.initial.weights_hash[:12]}, the store has {recorded[0]['weights_hash'][:12]}); put the original "
            f"files back, or name the new model by another path"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
