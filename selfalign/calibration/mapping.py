"""From a difference of scores to the probability that the better-scored answer is better, and how far to trust it.

P(a better than b) = sigmoid(k (s_a - s_b)): Bradley-Terry with the judge's score as the log-strength, one free scale
(Platt 1999 without the intercept: swapping a and b must turn P into 1 - P).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selfalign.evaluation.statistics import Interval, wilson
from selfalign.identity import content_id

_FOLDS = 5
#: Standard deviation of the prior on k in units of 1 / (typical difference); keeps k finite for a judge that never errs.
_PRIOR = 10.0
#: Fewer pairs than this say nothing about a margin.
MIN_PAIRS = 20


@dataclass(frozen=True)
class Bin:
    """A bin of :func:`calibration_error`: mean stated confidence and share that was right."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Margin:
    """``pair.min_margin`` that reaches ``target``: accuracy of pairs at or above it, and their share (yield)."""

    min_margin: float
    target: float
    accuracy: Interval
    share: float


@dataclass(frozen=True)
class Fit:
    """What the calibrate split says of a judge: k in 1 / score units, and the smallest margin that is good enough."""

    k: float
    n: int
    target: float
    margin: Margin | None

    def as_dict(self) -> Mapping[str, Any]:
        return asdict(self)


def fit(differences: Sequence[float], target: float) -> Fit:
    """Fit on the differences better - worse of gold items (0: a tie; leave invalid ones out)."""
    return Fit(fit_scale(differences), len(differences), target, smallest_margin(differences, target))


def fit_scale(differences: Sequence[float]) -> float:
    """k by penalised maximum likelihood: sum log sigmoid(k d) - (k rms(d))^2 / (2 * 10^2); 0 without differences."""
    data = np.asarray(differences, dtype=np.float64)
    size = math.sqrt(float(np.mean(data**2))) if len(data) else 0.0
    if size == 0:
        return 0.0
    from scipy.optimize import minimize_scalar

    unit = data / size

    def loss(k: float) -> float:
        return float(np.logaddexp(0.0, -k * unit).sum()) + k * k / (2 * _PRIOR**2)

    return float(minimize_scalar(loss, bounds=(-100.0, 100.0), method="bounded", options={"xatol": 1e-9}).x) / size


def probability(k: float, difference: float) -> float:
    """P(a better than b) for the score difference s_a - s_b."""
    x = k * difference
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def cross_fitted(differences: Sequence[float], clusters: Sequence[str]) -> list[float]:
    """P(better wins) of each item by a k fitted on the other prompts: five folds, by hash of the prompt."""
    folds = [int(content_id("fold", cluster)[:8], 16) % _FOLDS for cluster in clusters]
    scales = {
        fold: fit_scale([d for d, own in zip(differences, folds, strict=True) if own != fold]) for fold in {*folds}
    }
    return [probability(scales[fold], d) for d, fold in zip(differences, folds, strict=True)]


def calibration_error(probabilities: Sequence[float], bins: int = 10) -> tuple[float | None, list[Bin]]:
    """Expected calibration error (Guo et al., arXiv 1706.04599) over bins of equal mass, and the bins.

    ``probabilities`` are those of the better answer. A judge states a confidence in the answer it prefers,
    max(p, 1 - p), and is right where p > 0.5; p = 0.5 is half right. Equal confidences stay in one bin.
    """
    if not probabilities:
        return None, []
    stated = sorted((max(p, 1 - p), 0.5 if p == 0.5 else float(p > 0.5)) for p in probabilities)
    n = len(stated)
    found: list[Bin] = []
    start = 0
    for number in range(1, bins + 1):
        stop = max(round(number * n / bins), start)
        while start < stop < n and stated[stop][0] == stated[stop - 1][0]:
            stop += 1
        if members := stated[start:stop]:
            found.append(
                Bin(len(members), *(math.fsum(column) / len(members) for column in zip(*members, strict=True)))
            )
        start = stop
    return math.fsum(b.n * abs(b.confidence - b.accuracy) for b in found) / n, found


def smallest_margin(differences: Sequence[float], target: float, min_pairs: int = MIN_PAIRS) -> Margin | None:
    """The smallest |difference| from which on at least ``target`` of the pairs are right; None where none is.

    Most yield at the wanted accuracy. The same pairs choose it and measure it, so that its accuracy is optimistic.
    """
    ordered = sorted(differences, key=abs, reverse=True)
    right, best = 0, None
    for count, difference in enumerate(ordered, start=1):
        if difference == 0:
            break
        right += difference > 0
        last = count == len(ordered) or abs(ordered[count]) < abs(difference)
        if last and count >= min_pairs and right / count >= target:
            best = Margin(abs(difference), target, wilson(right, count), count / len(ordered))
    return best
