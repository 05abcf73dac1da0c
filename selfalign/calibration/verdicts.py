"""From judgements to one verdict a gold item."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.judges.scores import Votes, aggregate
from selfalign.types import Judgement, Outcome

Result = Literal["right", "wrong", "tie", "invalid"]
#: What a verdict is worth: a tie is a coin's throw, and a judge that cannot be understood helps nobody.
CREDIT: Mapping[Result, float] = {"right": 1.0, "wrong": 0.0, "tie": 0.5, "invalid": 0.0}
#: Outcomes by which a judge says that neither answer is better.
UNDECIDED: frozenset[Outcome] = frozenset({"tie", "disagree"})


@dataclass(frozen=True)
class JudgeIdentity:
    """Whose rows to look at, and how to read them: as in protocols.Judge."""

    name: str
    judge_hash: str
    min_valid_votes: int = 1
    score_range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Verdict:
    """What a judge made of one gold item. Scores are means over valid votes; lengths are in characters."""

    key: str
    kind: str
    language: str
    #: Items of one cluster (one prompt) stand or fall together.
    cluster: str
    result: Result
    better: float | None
    worse: float | None
    better_length: int
    worse_length: int
    #: Share of pairs of votes that agree; None where there are not two.
    agreement: float | None

    @property
    def difference(self) -> float | None:
        """Score of the better answer minus that of the worse; 0 for a tie, None where invalid."""
        if self.result == "tie":
            return 0.0
        return None if self.better is None or self.worse is None else self.better - self.worse


def judge_verdicts(
    items: Sequence[GoldItem], judgements: Iterable[Judgement], judge: JudgeIdentity
) -> tuple[list[Verdict], int]:
    """One verdict an item that the judge has rows for, in order of key; and how many items it passes over.

    A judge that gives no row for either answer does not apply to the item (the verifier, without constraints).
    """
    rows: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.judge_hash == judge.judge_hash:
            rows[judgement.candidate_id].append(judgement)
    found, skipped = [], 0
    for item in sorted(items, key=lambda item: item.key):
        sides = [rows.get(shown.candidate.candidate_id, []) for shown in as_judge_items(item, 0)]
        if not any(sides):
            skipped += 1
            continue
        found.append(_verdict(item, sides[0], sides[1], judge))
    return found, skipped


def _verdict(item: GoldItem, better: list[Judgement], worse: list[Judgement], judge: JudgeIdentity) -> Verdict:
    first, second = (_votes(side, judge) for side in (better, worse))
    return Verdict(
        item.key, item.kind, item.language, item.prompt, _result(first, second), first.score, second.score,
        len(item.better), len(item.worse), _agreement(better, worse),
    )  # fmt: skip


def _votes(rows: list[Judgement], judge: JudgeIdentity) -> Votes:
    found = aggregate(rows, judge.name, judge.min_valid_votes)
    return next(iter(found.values()), Votes(None, 0, {}))


def _result(better: Votes, worse: Votes) -> Result:
    if better.score is not None and worse.score is not None:
        return _compare(better.score, worse.score)
    outcomes = {*better.outcomes, *worse.outcomes}
    both = better.outcomes and worse.outcomes
    return "tie" if both and outcomes & UNDECIDED and outcomes <= {"ok", *UNDECIDED} else "invalid"


def _compare(better: float, worse: float) -> Literal["right", "wrong", "tie"]:
    if better == worse:
        return "tie"
    return "right" if better > worse else "wrong"


def _agreement(better: list[Judgement], worse: list[Judgement]) -> float | None:
    """Votes are compared by their number: vote i on the one answer with vote i on the other."""
    other = {row.sample_idx: row.score for row in worse if row.outcome == "ok"}
    votes = [
        _compare(row.score, score)
        for row in sorted(better, key=lambda row: row.sample_idx)
        if row.outcome == "ok" and row.score is not None and (score := other.get(row.sample_idx)) is not None
    ]
    pairs = list(combinations(votes, 2))
    return math.fsum(one == another for one, another in pairs) / len(pairs) if pairs else None


def by_cluster(verdicts: Iterable[Verdict], values: Iterable[float]) -> dict[str, list[float]]:
    """Values by the prompt of their verdict, for intervals."""
    found: dict[str, list[float]] = defaultdict(list)
    for verdict, value in zip(verdicts, values, strict=True):
        found[verdict.cluster].append(value)
    return found
