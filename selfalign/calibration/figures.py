"""All figures of one judge on gold items."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from selfalign.calibration.biases import LengthBias, PositionBias, length_bias, position_bias
from selfalign.calibration.mapping import Bin, Fit, calibration_error, cross_fitted, probability
from selfalign.calibration.verdicts import CREDIT, JudgeIdentity, Result, Verdict, by_cluster, judge_verdicts
from selfalign.evaluation.statistics import Interval, mean_interval, pooled_interval
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.types import Judgement

_READABLE = ("ok", "tie", "disagree")
_HISTOGRAM_BINS = 10


@dataclass(frozen=True)
class Histogram:
    """Scores of the better and of the worse answers in ``len(edges) - 1`` bins of equal width; the last holds its end."""

    edges: tuple[float, ...]
    better: tuple[int, ...]
    worse: tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """How honest P(better wins) is. ``fitted`` says on what: the calibrate split, or the other folds."""

    ece: float | None
    brier: Interval
    bins: tuple[Bin, ...]
    fitted: str


@dataclass(frozen=True)
class JudgeFigures:
    """One judge on one set of gold items; see calibration.METRICS."""

    judge: JudgeIdentity
    #: Items with a verdict, and items that the judge does not apply to.
    n: int
    skipped: int
    accuracy: Interval
    decided: Interval
    ties: Interval
    by_kind: Mapping[str, Interval]
    by_language: Mapping[str, Interval]
    results: Mapping[Result, int]
    #: Share of readable judgements; ``n`` counts judgements.
    parse_rate: Interval
    outcomes: Mapping[str, int]
    histogram: Histogram
    length: LengthBias
    position: PositionBias | None
    consistency: Interval | None
    #: Mean tokens written for a judgement, where rows tell.
    tokens: Interval | None
    calibration: Calibration


def measure(
    items: Sequence[GoldItem], judgements: Sequence[Judgement], judge: JudgeIdentity, mapping: Fit | None = None
) -> JudgeFigures:
    """Figures of ``judge`` from its rows among ``judgements``; without ``mapping`` P(better wins) is cross-fitted.

    Order of items and rows does not matter.
    """
    verdicts, skipped = judge_verdicts(items, judgements, judge)
    own = sorted((row for row in judgements if row.judge_hash == judge.judge_hash), key=lambda row: row.judgement_id)
    decided = [v for v in verdicts if v.result in ("right", "wrong")]
    voted = [v for v in verdicts if v.agreement is not None]
    counts = Counter(v.result for v in verdicts)
    return JudgeFigures(
        judge=judge,
        n=len(verdicts),
        skipped=skipped,
        accuracy=_accuracy(verdicts),
        decided=_accuracy(decided),
        ties=pooled_interval(by_cluster(verdicts, (float(v.result == "tie") for v in verdicts))),
        by_kind=_by(verdicts, lambda v: v.kind),
        by_language=_by(verdicts, lambda v: v.language),
        results={result: counts[result] for result in CREDIT},
        parse_rate=_parse_rate(items, own),
        outcomes=dict(sorted(Counter(row.outcome for row in own).items())),
        histogram=_histogram(verdicts, judge.score_range),
        length=length_bias(verdicts),
        position=position_bias(items, own, judge),
        consistency=pooled_interval(by_cluster(voted, (v.agreement or 0.0 for v in voted))) if voted else None,
        tokens=_tokens(own),
        calibration=_calibration(verdicts, mapping),
    )


def differences(verdicts: Sequence[Verdict]) -> tuple[list[float], list[str]]:
    """Score differences better - worse of the valid verdicts, and their prompts."""
    valid = [(v.difference, v.cluster) for v in verdicts if v.result != "invalid" and v.difference is not None]
    return [difference for difference, _ in valid], [cluster for _, cluster in valid]


def _accuracy(verdicts: Sequence[Verdict]) -> Interval:
    return pooled_interval(by_cluster(verdicts, (CREDIT[v.result] for v in verdicts)))


def _by(verdicts: Sequence[Verdict], key: Callable[[Verdict], str]) -> dict[str, Interval]:
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[key(verdict)].append(verdict)
    return {name: _accuracy(groups[name]) for name in sorted(groups)}


def _parse_rate(items: Sequence[GoldItem], rows: Sequence[Judgement]) -> Interval:
    prompts = {shown.candidate.candidate_id: item.prompt for item in items for shown in as_judge_items(item, 0)}
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.candidate_id in prompts:
            found[prompts[row.candidate_id]].append(float(row.outcome in _READABLE))
    return pooled_interval(found)


def _tokens(rows: Sequence[Judgement]) -> Interval | None:
    counts = [detail["n_tokens"] for row in rows if "n_tokens" in (detail := json.loads(row.detail))]
    return mean_interval(counts) if counts else None


def _histogram(verdicts: Sequence[Verdict], score_range: tuple[float, float]) -> Histogram:
    better, worse = ([s for v in verdicts if (s := getattr(v, side)) is not None] for side in ("better", "worse"))
    low, high = (
        score_range
        if all(map(math.isfinite, score_range))
        else (min([*better, *worse], default=0.0), max([*better, *worse], default=1.0))
    )
    width = (high - low) / _HISTOGRAM_BINS or 1.0

    def count(scores: Sequence[float]) -> tuple[int, ...]:
        places = Counter(min(max(int((score - low) / width), 0), _HISTOGRAM_BINS - 1) for score in scores)
        return tuple(places[number] for number in range(_HISTOGRAM_BINS))

    return Histogram(tuple(low + number * width for number in range(_HISTOGRAM_BINS + 1)), count(better), count(worse))


def _calibration(verdicts: Sequence[Verdict], mapping: Fit | None) -> Calibration:
    gaps, clusters = differences(verdicts)
    chances = [probability(mapping.k, gap) for gap in gaps] if mapping else cross_fitted(gaps, clusters)
    ece, bins = calibration_error(chances)
    errors: dict[str, list[float]] = defaultdict(list)
    for cluster, chance in zip(clusters, chances, strict=True):
        errors[cluster].append((1 - chance) ** 2)
    return Calibration(
        ece, pooled_interval(errors), tuple(bins),
        "on the calibrate split" if mapping else "in five folds by prompt",
    )  # fmt: skip
