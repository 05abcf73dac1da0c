"""Rows of earlier rounds that a round trains on as well (policy.data), of the run's present history alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from selfalign.identity import content_id, derive_seed
from selfalign.registry import find
from selfalign.stages.context import RunContext
from selfalign.stages.examples import KINDS, feeds, identity_of
from selfalign.types import Replay

#: Name of the rows (examples.KINDS) -> what a Replay calls one of them. Lessons are of their own round only.
_CALLED: Mapping[str, Literal["pair", "judgement_pair", "label", "ranking"]] = {
    "pairs": "pair", "judgement_pairs": "judgement_pair", "labels": "label", "rankings": "ranking"
}  # fmt: skip
#: Stages that make such rows.
_MAKERS = ("pair", "meta_judge", "preferences")


def shares(context: RunContext, round: int) -> dict[int, float]:
    """Earlier rounds that ``round`` trains on as well -> the share of their rows; none where it teaches."""
    return {} if context.config.teaches(round) else context.config.earlier(round)


def made_of(context: RunContext, round: int) -> list[Any]:
    """What the replayed rows depend on, for the fingerprint of the training; empty where there are none."""
    return [
        [share, sorted(row["fingerprint"] for row in _makers(context, earlier))]
        for earlier, share in shares(context, round).items()
    ]


def replayed(context: RunContext, round: int) -> dict[str, list[Any]]:
    """The rows, by name (examples.KINDS): of each earlier round, its share of those that the trainer can train on."""
    needs = find("train", context.config.trainer(round).id).load().needs
    found: dict[str, list[Any]] = {}
    for earlier, share in shares(context, round).items():
        for name in feeds(needs):
            if name in _CALLED:
                rows = [row for row in context.store.rows(KINDS[name], "round = ?", (earlier,)) if _trains(row, needs)]
                found.setdefault(name, []).extend(drawn(rows, share, context.config.seed, round))
    return {name: rows for name, rows in found.items() if rows}


def drawn(rows: Sequence[Any], share: float, seed: int, round: int) -> list[Any]:
    """At most ``share`` of ``rows``: those that come first when ordered by a hash of seed, round and id. Pure."""
    count = math.floor(share * len(rows) + 1e-9)  # 0.29 * 100 is a little less than 29
    return sorted(rows, key=lambda row: derive_seed(seed, round, "replay", identity_of(row)))[:count]


def records(round: int, rows: Mapping[str, Sequence[Any]]) -> list[Replay]:
    """What is written down of :func:`replayed` rows."""
    return [
        Replay(
            content_id("replay", round, _CALLED[name], identity_of(row)), round, row.round, _CALLED[name], identity_of(row)
        )
        for name, members in rows.items()
        for row in members
    ]  # fmt: skip


def _trains(row: Any, needs: str) -> bool:
    """Whether a trainer gets anything of the row: unwanted answers are nothing to imitate."""
    return needs != "completions" or getattr(row, "label", True)


def _makers(context: RunContext, round: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = context.store.query(
        "select stage, fingerprint from stages where round = ? and stage in (select unnest(?)) and status = 'done' "
        "qualify row_number() over (partition by stage order by started_at desc) = 1",
        (round, list(_MAKERS)),
    ).to_pylist()
    return found
