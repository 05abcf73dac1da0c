"""What else than quality moves a judge: length and the order shown."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from selfalign.calibration.verdicts import CREDIT, JudgeIdentity, Verdict, by_cluster
from selfalign.evaluation.statistics import Interval, mean_interval, pooled_interval
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.types import Judgement

#: Answers whose lengths differ by at most this share of the longer one are of equal length.
MATCHED = 0.1
#: Fewer decided items than this give no slope.
_MIN_ITEMS = 10
#: Standard deviation of the prior on both coefficients, in log-odds: separable data have a finite fit.
_PRIOR = 10.0


@dataclass(frozen=True)
class LengthBias:
    """Accuracy by which answer is longer (as judge_pairwise_accuracy), ``difference`` = longer - shorter."""

    shorter: Interval
    matched: Interval
    longer: Interval
    difference: Interval
    slope: Interval


@dataclass(frozen=True)
class PositionBias:
    """Of a judge that is shown both orders: mean P(first shown) - 0.5, and the share of items that flip."""

    to_first: Interval
    flips: Interval


def length_bias(verdicts: Sequence[Verdict]) -> LengthBias:
    """See :class:`LengthBias`; lengths in characters."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        gap = (verdict.better_length - verdict.worse_length) / max(verdict.better_length, verdict.worse_length, 1)
        groups["matched" if abs(gap) <= MATCHED else "longer" if gap > 0 else "shorter"].append(verdict)
    found = {
        name: pooled_interval(by_cluster(groups[name], (CREDIT[v.result] for v in groups[name])))
        for name in ("shorter", "matched", "longer")
    }
    return LengthBias(
        found["shorter"], found["matched"], found["longer"], _difference(found["longer"], found["shorter"]),
        _slope(verdicts),
    )  # fmt: skip


def position_bias(
    items: Iterable[GoldItem], judgements: Iterable[Judgement], judge: JudgeIdentity
) -> PositionBias | None:
    """From rows whose detail has ``p_first`` and ``p_second``: P(the row's answer) shown first and shown second.

    None for a judge that has none such.
    """
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for judgement in judgements:
        if judgement.judge_hash == judge.judge_hash and (both := _both_orders(judgement)):
            seen[judgement.candidate_id].append(both)
    bias: dict[str, list[float]] = defaultdict(list)
    flips: dict[str, list[float]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.key):
        # Either side tells the same: P(worse, first) is 1 - P(better, second).
        sides = (seen.get(shown.candidate.candidate_id) for shown in as_judge_items(item, 0))
        if votes := next((side for side in sides if side), None):
            bias[item.prompt].append(math.fsum((first - second) / 2 for first, second in votes) / len(votes))
            flips[item.prompt].append(
                math.fsum((first - 0.5) * (second - 0.5) < 0 for first, second in votes) / len(votes)
            )
    if not bias:
        return None
    means = mean_interval([math.fsum(values) / len(values) for values in bias.values()]).clipped(-0.5, 0.5)
    n = sum(map(len, bias.values()))
    return PositionBias(Interval(means.value, means.low, means.high, n), pooled_interval(flips))


def _both_orders(judgement: Judgement) -> tuple[float, float] | None:
    detail = json.loads(judgement.detail)
    values = (detail.get("p_first"), detail.get("p_second"))
    if all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        return float(values[0]), float(values[1])
    return None


def _difference(one: Interval, other: Interval) -> Interval:
    """one - other of separate groups, by Newcombe's hybrid of their intervals (1998, method 10)."""
    n = one.n + other.n
    if one.value is None or other.value is None:
        return Interval(None, None, None, n)
    gap = one.value - other.value
    if None in (one.low, one.high, other.low, other.high):
        return Interval(gap, None, None, n)
    down = math.hypot(one.value - one.low, other.high - other.value)  # type: ignore[operator]
    up = math.hypot(one.high - one.value, other.value - other.low)  # type: ignore[operator]
    return Interval(gap, gap - down, gap + up, n)


def _slope(verdicts: Sequence[Verdict]) -> Interval:
    """b of logit P(right) = a + b log2(better's length / worse's), a tie as half right; errors clustered by prompt."""
    valid = [v for v in verdicts if v.result != "invalid"]
    lengths = [math.log2(max(v.better_length, 1) / max(v.worse_length, 1)) for v in valid]
    right = np.array([CREDIT[v.result] for v in valid])
    if len(valid) < _MIN_ITEMS or np.ptp(lengths) == 0 or np.ptp(right) == 0:
        return Interval(None, None, None, len(valid))
    from scipy import stats
    from scipy.optimize import minimize
    from scipy.special import expit

    x = np.column_stack([np.ones(len(valid)), lengths])

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        value = np.logaddexp(0.0, z).sum() - right @ z + w @ w / (2 * _PRIOR**2)
        return float(value), x.T @ (expit(z) - right) + w / _PRIOR**2

    w = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    p = expit(x @ w)
    bread = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x + np.eye(2) / _PRIOR**2)
    names = {cluster: number for number, cluster in enumerate(dict.fromkeys(v.cluster for v in valid))}
    scores = np.zeros((len(names), 2))
    np.add.at(scores, [names[v.cluster] for v in valid], x * (right - p)[:, None])
    error = math.sqrt((bread @ scores.T @ scores @ bread)[1, 1])
    half = float(stats.norm.ppf(0.975)) * error
    return Interval(float(w[1]), float(w[1]) - half, float(w[1]) + half, len(valid))
