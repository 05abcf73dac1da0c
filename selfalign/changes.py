"""What a changed config, prompt file or model means for a run that has begun: which stages no longer stand.

Whether a stage stands is decided by its fingerprint alone; the settings that differ are only shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.config import NO_ROWS
from selfalign.errors import WeightsMismatch
from selfalign.rounds import EXAMPLES, STAGES, fingerprint, places, takes
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
    planned = set(places(context.config, max(round for round, _ in made)))
    # Stages that today's config leaves out (evaluate.log_ratio: false) stay: nothing depends on them. Not so those
    # whose rows are trained on.
    looked_at = [place for place in made if place[0] not in frozen and (place in planned or place[1] in EXAMPLES)]
    stale: set[Place] = set()
    found = []
    for place in sorted(looked_at, key=lambda place: (place[0], STAGES.index(place[1]))):
        # In this order: a fingerprint can only be taken where what the stage works on stands, and is there at all.
        if (
            place not in planned
            or _rests_on(place, stale, planned - made.keys())
            or fingerprint(context, *place) != made[place]
        ):
            stale.add(place)
            found.append(place)
    return found


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
