"""What a check returns, and rules: checks that are one SELECT of the damaged rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

#: A SELECT with ? for its parameters; each call is a connection of its own, so that a run can write in between.
Query = Callable[[str, Sequence[Any]], pa.Table]
#: Damaged rows that a rule names; the rest is counted. One cause usually hits many rows.
_LISTED = 100


@dataclass(frozen=True)
class Finding:
    """One damaged row. ``where`` places it for people; ``more`` rows have the same damage and are not listed."""

    check: str
    table: str
    row_id: str
    where: str
    what: str
    remedy: str
    more: int = 0


@dataclass(frozen=True)
class Rule:
    """Damage that SQL can see. ``sql`` selects row_id, round (or NULL), place and what, one row a damaged row."""

    check: str
    table: str
    sql: str
    params: tuple[Any, ...] = ()
    #: What to do, where it is not to make the round again.
    remedy: str | None = None


def broken(query: Query, rules: Iterable[Rule]) -> list[Finding]:
    """Findings of every rule, in order of rule and row id."""
    return [finding for rule in rules for finding in _rows_that_break(query, rule)]


def remake(round: int | None) -> str:
    """What to do about a row that only its stage can make again."""
    copy = "restore store.duckdb from a copy"
    if round is None or round < 1:
        return copy
    return f"{copy}, or make round {round} again: selfalign resume RUN --from-round {round - 1}"


def place(round: int | None, rest: str | None) -> str:
    """Where a row stands, in words."""
    return ", ".join(part for part in (None if round is None else f"round {round}", rest) if part)


def _rows_that_break(query: Query, rule: Rule) -> list[Finding]:
    found = query(
        f"SELECT *, count(*) OVER () AS total FROM ({rule.sql}) ORDER BY round, row_id LIMIT {_LISTED}", rule.params
    ).to_pylist()
    unlisted = found[0]["total"] - len(found) if found else 0
    return [
        Finding(
            rule.check, rule.table, row["row_id"], place(row["round"], row["place"]), row["what"],
            rule.remedy or remake(row["round"]), unlisted if last else 0,
        )
        for row, last in ((row, row is found[-1]) for row in found)
    ]  # fmt: skip
