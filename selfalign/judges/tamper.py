"""Does a judge see damage? Answers with a seeded defect against the same answers without it.

After CriticGPT (arXiv 2407.00215), whose critics are measured on bugs that were put in. Pure functions
over any judge's scores; counts, so that whoever reports them adds intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TamperCase:
    """Candidate ids of an answer and of the same answer with a defect; ``kind`` is the defect's.

    A control has harmlessly changed text (``harmless``) in the place of the tampered one.
    """

    kind: str
    clean: str
    tampered: str
    harmless: bool = False


@dataclass(frozen=True)
class Detection:
    """Counts over cases; shares are None where there is nothing to divide by.

    ``found``: tampered scored below clean. ``missed``: scored the same. ``reversed``: scored above.
    ``unscored``: either has no score. ``flagged_tampered`` of ``tampered`` and ``flagged_clean`` of ``clean``
    are the answers scored below the threshold.
    """

    found: int
    missed: int
    reversed: int
    unscored: int
    flagged_tampered: int
    tampered: int
    flagged_clean: int
    clean: int

    @property
    def n(self) -> int:
        """Cases with both scores."""
        return self.found + self.missed + self.reversed

    @property
    def recall(self) -> float | None:
        """Share of the cases with both scores in which the defect was found."""
        return self.found / self.n if self.n else None

    @property
    def recall_of_all(self) -> float | None:
        """As ``recall``, with a case that has no score counted as not found."""
        return self.found / (self.n + self.unscored) if self.n + self.unscored else None

    @property
    def flag_rate(self) -> float | None:
        """Share of scored tampered answers below the threshold."""
        return self.flagged_tampered / self.tampered if self.tampered else None

    @property
    def false_alarms(self) -> float | None:
        """Share of scored clean answers below the threshold."""
        return self.flagged_clean / self.clean if self.clean else None


def detect(cases: Sequence[TamperCase], scores: Mapping[str, float | None], threshold: float) -> dict[str, Detection]:
    """Kind -> what a judge whose ``scores`` (candidate id -> score) these are found; "all" is over all defects.

    ``threshold``, in score units, is what a fitted threshold or the middle of the judge's range gives: an
    answer scored below it is flagged. Controls are no defects: they stand under "harmless" alone, where
    ``found`` counts false alarms. A clean answer in several cases counts once a kind.
    """
    groups: dict[str, list[TamperCase]] = {"all": []}
    for case in cases:
        if case.harmless:
            groups.setdefault("harmless", []).append(case)
        else:
            groups["all"].append(case)
            groups.setdefault(case.kind, []).append(case)
    return {kind: _count(members, scores, threshold) for kind, members in groups.items()}


def _count(cases: Sequence[TamperCase], scores: Mapping[str, float | None], threshold: float) -> Detection:
    found = missed = reversed_ = unscored = 0
    for case in cases:
        clean, tampered = scores.get(case.clean), scores.get(case.tampered)
        if clean is None or tampered is None:
            unscored += 1
        elif tampered == clean:
            missed += 1
        elif tampered < clean:
            found += 1
        else:
            reversed_ += 1
    tampered_scores = _scored({case.tampered for case in cases}, scores)
    clean_scores = _scored({case.clean for case in cases}, scores)
    return Detection(
        found, missed, reversed_, unscored,
        sum(score < threshold for score in tampered_scores), len(tampered_scores),
        sum(score < threshold for score in clean_scores), len(clean_scores),
    )  # fmt: skip


def _scored(ids: set[str], scores: Mapping[str, float | None]) -> list[float]:
    return [score for candidate_id in ids if (score := scores.get(candidate_id)) is not None]
