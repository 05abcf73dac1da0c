"""What people said of a run's pairs, counted; which word on a pair holds is decided as for its trainings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from selfalign.evaluation.statistics import wilson
from selfalign.report.figures import Reviewed
from selfalign.reviews import latest, read
from selfalign.store.snapshot import Snapshot, select
from selfalign.types import Review


def read_reviewed(store: Snapshot, inbox: Path) -> list[Reviewed]:
    """One row a round whose pairs were reviewed; none where ``store``, being older, cannot have reviews.

    Raises:
        BadInput: the inbox cannot be read.
    """
    columns = store.columns("reviews")
    if not columns:
        return []
    rows = store.rows(select(columns, [field.name for field in fields(Review)], "reviews"))
    said = latest([*(Review(**row) for row in rows), *read(inbox).reviews])
    honoured = store.rows("SELECT from_round, round, count(*) AS n FROM overrides GROUP BY ALL ORDER BY ALL")
    changed: dict[int, dict[int, int]] = defaultdict(dict)
    for row in honoured:
        changed[row["from_round"]][row["round"]] = row["n"]
    return counted(said.values(), changed)


def counted(said: Iterable[Review], changed: Mapping[int, Mapping[int, int]]) -> list[Reviewed]:
    """``said``, at most one review a pair, by the round that made the pairs. Pure.

    Args:
        changed: round that made pairs -> round that trained -> flips and rejections that it honoured.
    """
    by_round: dict[int, Counter[str]] = defaultdict(Counter)
    for review in said:
        by_round[review.round][review.decision] += 1
    return [_row(round, by_round[round], changed.get(round, {})) for round in sorted({*by_round, *changed})]


def _row(round: int, counts: Counter[str], changed: Mapping[int, int]) -> Reviewed:
    accepted, flipped = counts["accept"], counts["flip"]
    agreed = wilson(accepted, accepted + flipped)
    return Reviewed(round, accepted, flipped, counts["reject"], agreed.value, agreed.low, agreed.high, changed)
