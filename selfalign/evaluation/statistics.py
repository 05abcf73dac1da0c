"""Intervals and paired tests; pure functions over numbers.

The unit is the prompt throughout: several answers to one prompt resemble each other, and counting them
as independent would make every interval too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np

_LEVEL = 0.95
_PERMUTATIONS = 10_000
_RESAMPLES = 2_000
#: Signs or counts drawn at once, which bounds the memory of the permutation test and the bootstrap.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; ``low``/``high`` are None where n is too small for one."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def clipped(self, lowest: float, highest: float) -> Interval:
        """Without what the figure cannot be: Student's t knows no bounds."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest))


_NOTHING = Interval(None, None, None, 0)


def wilson(successes: int, n: int, level: float = _LEVEL) -> Interval:
    """Share of successes with Wilson's score interval (Wilson 1927): honest near 0 and 1, and for small n."""
    if n == 0:
        return _NOTHING
    share, z = successes / n, _normal_quantile(0.5 + level / 2)
    centre = (2 * n * share + z**2) / (2 * (n + z**2))
    half = z / (2 * (n + z**2)) * math.sqrt(4 * n * share * (1 - share) + z**2)
    return Interval(share, centre - half if successes else 0.0, centre + half if successes < n else 1.0, n)


def mean_interval(values: Sequence[float], level: float = _LEVEL) -> Interval:
    """Mean with Student's t interval; the values must be independent (one a prompt).

    Equal values give an interval of no width; one value, or values that are not finite, give none.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    if n == 0 or not np.isfinite(data).all():
        return Interval(None, None, None, n)
    if n == 1:
        return Interval(float(data[0]), None, None, 1)
    if np.ptp(data) == 0:  # the mean of equal numbers need not be that number in floating point
        return Interval(float(data[0]), float(data[0]), float(data[0]), n)
    mean = float(data.mean())
    return _around(mean, float(data.std(ddof=1)) / math.sqrt(n), n - 1, n, level)


def cluster_mean_interval(values: Mapping[str, Sequence[float]], level: float = _LEVEL) -> Interval:
    """Mean over prompts of the mean over a prompt's samples; ``n`` counts prompts."""
    return mean_interval(_means(values), level)


def share_interval(values: Mapping[str, Collection[float]], level: float = _LEVEL) -> Interval:
    """Mean over prompts of a 0/1 outcome: Wilson's interval with one sample a prompt, else clustered by prompt."""
    if all(len(samples) == 1 for samples in values.values()):
        return wilson(int(sum(chain.from_iterable(values.values()))), len(values), level)
    return mean_interval(_means(values), level).clipped(0, 1)


def ratio_interval(parts: Mapping[str, tuple[int, int]], level: float = _LEVEL) -> Interval:
    """Successes over trials, pooled over prompts that hold (successes, trials) each; ``n`` counts trials.

    Trials of one prompt stand or fall together, so the error comes from the spread between prompts:
    the linearised ratio estimator (Cochran, Sampling Techniques, 3rd ed., 6.3) with t on prompts - 1.
    With one trial a prompt this is a plain share, and Wilson's interval is used.
    """
    counts = [(successes, trials) for successes, trials in parts.values() if trials]
    passed, n = sum(successes for successes, _ in counts), sum(trials for _, trials in counts)
    if n == len(counts):
        return wilson(passed, n, level)
    share = passed / n
    if len(counts) == 1:
        return Interval(share, None, None, n)
    spread = math.fsum((successes - share * trials) ** 2 for successes, trials in counts)
    error = math.sqrt(spread * len(counts) / (len(counts) - 1)) / n
    return _around(share, error, len(counts) - 1, n, level).clipped(0, 1)


def pooled_interval(values: Mapping[str, Sequence[float]], level: float = _LEVEL) -> Interval:
    """Mean over all samples of values in [0, 1] (a tie may count half); ``n`` counts samples.

    With one sample a prompt this is Wilson's interval. Samples of one prompt stand or fall together, so with several it
    is Wilson's with n divided by the design effect, the linearised variance of the pooled mean over p (1 - p) / n
    (Korn and Graubard 1998), and Student's t on prompts - 1. Unlike a t interval it has a width where all are right.
    """
    clusters = [samples for samples in values.values() if samples]
    n = sum(len(samples) for samples in clusters)
    if n == 0:
        return _NOTHING
    mean = math.fsum(chain.from_iterable(clusters)) / n
    if len(clusters) == 1 and n > 1:
        return Interval(mean, None, None, n)
    size, z = float(n), _normal_quantile(0.5 + level / 2)
    if n > len(clusters):
        spread = math.fsum((math.fsum(samples) - mean * len(samples)) ** 2 for samples in clusters)
        variance = spread * len(clusters) / (len(clusters) - 1) / n**2
        if not 0 < mean < 1:
            size = float(len(clusters))  # nothing shows how alike a prompt's samples are: taken to be the same
        elif variance > 0:
            size = min(float(n), mean * (1 - mean) / variance)
        z = _t_quantile(0.5 + level / 2, len(clusters) - 1)
    centre = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(mean * (1 - mean) / size + z * z / (4 * size * size))
    # Rounding must not put the mean outside its own interval at 0 and 1.
    return Interval(mean, min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean), n)


def bootstrap_interval(
    values: Sequence[float], seed: int, resamples: int = _RESAMPLES, level: float = _LEVEL
) -> Interval:
    """Mean of values in [0, 1], one a prompt, with the percentile bootstrap over prompts (Efron 1979).

    Where all are 0, or all 1, resampling knows no doubt; Wilson's interval does, and is given instead. All
    equal to something between (only ties) give an interval of no width.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    if n < 2 or not np.isfinite(data).all():
        return Interval(float(data[0]) if n == 1 else None, None, None, n)
    if np.ptp(data) == 0 and data[0] in (0.0, 1.0):
        return wilson(round(float(data.sum())), n, level)
    means = [counts @ data / n for counts in resampled_counts(n, resamples, seed)]
    return percentile_interval(math.fsum(data) / n, np.concatenate(means), n, level)


def resampled_counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of ``n`` units is drawn in every bootstrap sample: blocks of [rows, n], in all ``resamples``."""
    random = np.random.default_rng(seed)
    while resamples:
        rows = min(resamples, max(1, _BLOCK // n))
        yield random.multinomial(n, np.full(n, 1 / n), size=rows)
        resamples -= rows


def percentile_interval(value: float, resampled: np.ndarray, n: int, level: float = _LEVEL) -> Interval:
    """``value`` with the percentiles of its resampled values, widened to hold it where rounding would not."""
    low, high = np.quantile(resampled, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, min(float(low), value), max(float(high), value), n)


@dataclass(frozen=True)
class Paired:
    """Mean of after - before over the same prompts; ``better`` and ``worse`` count the discordant ones."""

    difference: Interval
    p_value: float | None
    test: Literal["mcnemar_exact", "sign_flip"]
    better: int
    worse: int


def paired_difference(
    before: Sequence[float], after: Sequence[float], seed: int, clusters: Sequence[Hashable] | None = None
) -> Paired:
    """Compare two models prompt by prompt; values may be means over a prompt's samples.

    ``clusters`` names the prompt of each value where a prompt has several: their differences are averaged.

    The interval is Student's t over the prompts' differences: it needs no seed and, unlike a BCa bootstrap,
    cannot fail on degenerate data. On -1/0/1 differences it covers 0.92 to 0.96 where 10 or more prompts
    are discordant (simulated, n 50 to 400). With fewer it may be too narrow (0.80 at 3, all one way), and
    with none it has no width, as a bootstrap's would have: read it together with p-value and counts.

    The p-value is McNemar's exact test where both sides are 0/1, else :func:`paired_p_value`.

    Raises:
        ValueError: sequences of unequal length.
    """
    if len(before) != len(after) or (clusters is not None and len(clusters) != len(before)):
        raise ValueError(f"pairs need both sides: {len(before)} values before, {len(after)} after")
    gaps = [float(new) - float(old) for old, new in zip(before, after, strict=True)]
    binary = {*before, *after} <= {0.0, 1.0}
    if clusters is not None:
        grouped: dict[Hashable, list[float]] = {}
        for cluster, gap in zip(clusters, gaps, strict=True):
            grouped.setdefault(cluster, []).append(gap)
        binary = binary and len(grouped) == len(gaps)
        gaps = _means(grouped)
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    p_value = mcnemar_p_value(better, worse) if binary else paired_p_value(gaps, seed)
    return Paired(
        mean_interval(gaps), p_value if gaps else None, "mcnemar_exact" if binary else "sign_flip", better, worse
    )


def mcnemar_p_value(better: int, worse: int) -> float:
    """Exact two-sided McNemar test (McNemar 1947): under no difference, a discordant pair is a fair coin."""
    return min(1.0, 2 * _fair_coin(min(better, worse), better + worse)) if better + worse else 1.0


def paired_p_value(gaps: Sequence[float], seed: int, permutations: int = _PERMUTATIONS) -> float:
    """Two-sided sign-flip permutation test of a zero mean (Fisher 1935), by seeded random flips.

    The observed signs count as one of the permutations, so that p is never 0 (Phipson and Smyth 2010).
    """
    moved = np.asarray([gap for gap in gaps if gap], dtype=np.float64)
    if len(moved) == 0:
        return 1.0
    # Sums that are equal on paper differ in the last bits by the order of their terms.
    threshold = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    random = np.random.default_rng(seed)
    extreme, left = 1, permutations
    while left:
        rows = min(left, max(1, _BLOCK // len(moved)))
        signs = random.integers(0, 2, (rows, len(moved)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ moved) >= threshold).sum())
        left -= rows
    return extreme / (permutations + 1)


def _around(value: float, error: float, freedom: int, n: int, level: float) -> Interval:
    half = _t_quantile(0.5 + level / 2, freedom) * error
    return Interval(value, value - half, value + half, n)


# From scipy.special: scipy.stats, which has them by other names, takes half a second to import.


def _normal_quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))


def _fair_coin(heads: int, n: int) -> float:
    """Probability of at most ``heads`` in ``n`` throws."""
    from scipy.special import bdtr

    return float(bdtr(heads, n, 0.5))


def _t_quantile(p: float, freedom: int) -> float:
    """Student's."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def _means(groups: Mapping[Hashable, Collection[float]] | Mapping[str, Collection[float]]) -> list[float]:
    return [math.fsum(group) / len(group) for group in groups.values() if group]
