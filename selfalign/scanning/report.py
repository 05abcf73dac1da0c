"""Findings, counted for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfalign.scanning.findings import Finding

#: Places that are named of each kind.
_PLACES = 3


@dataclass(frozen=True)
class KindFound:
    """``places`` are the first ones of a kind."""

    kind: str
    count: int
    places: tuple[str, ...]


def by_kind(findings: Sequence[Finding]) -> list[KindFound]:
    """The most frequent kind first."""
    counts = Counter(finding.kind for finding in findings)
    return [
        KindFound(kind, count, tuple(place(f) for f in findings if f.kind == kind)[:_PLACES])
        for kind, count in counts.most_common()
    ]


def place(finding: Finding) -> str:
    """Where it is, and what it looks like: ``p.jsonl:3 answer jane********``."""
    field = "" if finding.field == "text" else f" {finding.field}"
    return f"{finding.where}{field} {finding.excerpt}"


def counted(findings: Iterable[Finding]) -> str:
    """Counts in one line: ``email 2, jwt 1``."""
    return ", ".join(f"{kind} {count}" for kind, count in Counter(f.kind for f in findings).most_common())
