from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selfalign.evaluation.statistics import (
    Interval,
    cluster_mean_interval,
    mcnemar_p_value,
    mean_interval,
    paired_difference,
    paired_p_value,
    ratio_interval,
    share_interval,
    wilson,
)

shares = st.floats(0, 1, allow_nan=False)
pairs = st.lists(st.tuples(shares, shares), min_size=1, max_size=30)


def bounds(interval: Interval) -> tuple[float, float, float]:
    assert interval.low is not None and interval.value is not None and interval.high is not None
    return interval.low, interval.value, interval.high


def test_wilson_by_hand() -> None:
    # centre (8 + z²/2) / (10 + z²) = 9.9207 / 13.8415 = .71675; half z·sqrt(10·.8·.2 + z²/4) / 13.8415 = .22659
    assert bounds(wilson(8, 10)) == pytest.approx((0.49016, 0.8, 0.94333), abs=1e-4)
    assert wilson(0, 0) == Interval(None, None, None, 0)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_is_scipys_and_holds_the_share(counts: tuple[int, int], level: float) -> None:
    low, value, high = bounds(wilson(*counts, level))
    expected = stats.binomtest(*counts).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= value <= high <= 1


def test_mean_interval_by_hand() -> None:
    # mean 2, sd 1, t(.975, 2) = 4.30265, half = 4.30265 / sqrt(3)
    assert bounds(mean_interval([1, 2, 3])) == pytest.approx((2 - 2.484138, 2, 2 + 2.484138), abs=1e-6)


def test_mean_interval_without_spread_or_data() -> None:
    assert mean_interval([0.1] * 3) == Interval(0.1, 0.1, 0.1, 3)
    assert mean_interval([5.0]) == Interval(5.0, None, None, 1)
    assert mean_interval([]) == Interval(None, None, None, 0)
    assert mean_interval([1.0, math.nan]) == Interval(None, None, None, 2)
    assert mean_interval([1.0, math.inf]) == Interval(None, None, None, 2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_mean_interval_holds_the_mean(values: list[float]) -> None:
    low, value, high = bounds(mean_interval(values))
    assert low <= value <= high
    assert value == pytest.approx(math.fsum(values) / len(values), abs=1e-6)


def test_a_cluster_counts_once() -> None:
    clustered = cluster_mean_interval({"a": [0, 1], "b": [1, 1, 1, 1], "c": [0, 0]})
    assert clustered == mean_interval([0.5, 1, 0])
    assert clustered.n == 3


def test_share_is_wilsons_only_with_one_sample_a_prompt() -> None:
    assert share_interval({"a": [1], "b": [0], "c": [1]}) == wilson(2, 3)
    several = share_interval({"a": [1, 1], "b": [0, 1], "c": [1, 1]})
    # mean 5/6, sd .288675; half = t(.975, 2) · .288675 / sqrt(3) = 4.302653 / 6 = .717109; cut at 1
    assert bounds(several) == pytest.approx((0.116224, 5 / 6, 1), abs=1e-6)


def test_ratio_by_hand() -> None:
    # R = 3/5; residuals 2 - 2R = .8, 1 - 2R = -.2, 0 - R = -.6; squares sum to 1.04
    # error = sqrt(1.04 · 3/2) / 5 = .249800, half = 4.30265 · .249800 = 1.07480, cut to [0, 1]
    figure = ratio_interval({"a": (2, 2), "b": (1, 2), "c": (0, 1)})
    assert figure == Interval(0.6, 0, 1, 5)
    narrow = ratio_interval({f"{i}": (1, 2) if i % 2 else (2, 2) for i in range(10)})
    # R = .75, every residual is .5: error = sqrt(10 · .25 · 10/9) / 20 = .083333, half = 2.262157 · .083333
    assert bounds(narrow) == pytest.approx((0.75 - 0.188513, 0.75, 0.75 + 0.188513), abs=1e-5)


def test_ratio_of_single_trials_is_wilsons() -> None:
    assert ratio_interval({"a": (1, 1), "b": (0, 1)}) == wilson(1, 2)
    assert ratio_interval({"a": (1, 2)}) == Interval(0.5, None, None, 2)
    assert ratio_interval({}) == Interval(None, None, None, 0)


def test_paired_by_hand() -> None:
    # gaps 1 1 1 -1 0: mean .4, sd sqrt(.8); t(.975, 4) = 2.776445; half = 2.776445 · .894427 / sqrt(5) = 1.110578
    result = paired_difference([0, 0, 0, 1, 1], [1, 1, 1, 0, 1], seed=0)
    assert bounds(result.difference) == pytest.approx((0.4 - 1.110578, 0.4, 0.4 + 1.110578), abs=1e-5)
    assert (result.better, result.worse, result.test) == (3, 1, "mcnemar_exact")
    assert result.p_value == pytest.approx(10 / 16)  # 2 · (1 + 4) / 2⁴


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_p_value(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_p_value(3, 3) == mcnemar_p_value(0, 0) == 1


def test_no_change_has_no_width_and_p_one() -> None:
    for values in ([0.0, 1.0, 1.0], [0.5, 0.25, 1.0]):
        result = paired_difference(values, values, seed=0)
        assert result.difference == Interval(0, 0, 0, 3)
        assert (result.p_value, result.better, result.worse) == (1, 0, 0)


def test_one_prompt_and_none() -> None:
    one = paired_difference([0.0], [1.0], seed=0)
    assert (one.difference, one.p_value) == (Interval(1, None, None, 1), 1)
    none = paired_difference([], [], seed=0)
    assert (none.difference, none.p_value) == (Interval(None, None, None, 0), None)


def test_unequal_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values before, 1 after"):
        paired_difference([0, 1], [1], seed=0)
    with pytest.raises(ValueError):
        paired_difference([0, 1], [1, 1], seed=0, clusters=["a"])


def test_clusters_are_averaged_first() -> None:
    flat = paired_difference([0, 0, 1, 1], [1, 0, 1, 0], seed=0, clusters=["a", "a", "b", "b"])
    means = paired_difference([0, 1], [0.5, 0.5], seed=0)
    assert flat == means
    assert flat.test == "sign_flip"


def test_permutation_agrees_with_the_exact_test() -> None:
    gaps = [1.0] * 9 + [-1.0] * 3 + [0.0] * 5
    assert paired_p_value(gaps, seed=1) == pytest.approx(mcnemar_p_value(9, 3), abs=0.015)
    # all 2¹⁰ sign vectors: only the two extreme ones reach the observed sum
    assert paired_p_value([0.1] * 10, seed=1) == pytest.approx(2 / 1024, abs=0.0015)


def test_permutation_is_never_zero() -> None:
    assert paired_p_value([0.1] * 60, seed=1, permutations=100) == 1 / 101


def test_sums_that_are_equal_on_paper_count_as_equal() -> None:
    """Seven gaps of .1, four of them up: no choice of signs gives a sum nearer to zero."""
    assert paired_p_value([-0.1, 0.1, 0.1, -0.1, 0.1, 0.1, -0.1], seed=0) == 1


def test_permutation_is_seeded_and_bounded_in_memory() -> None:
    gaps = list(np.random.default_rng(0).normal(0.01, 1, 3000))
    assert paired_p_value(gaps, seed=3, permutations=2000) == paired_p_value(gaps, seed=3, permutations=2000)
    assert paired_p_value(gaps, seed=3, permutations=2000) != paired_p_value(gaps, seed=4, permutations=2000)


@settings(max_examples=40, deadline=None)
@given(pairs, st.integers(0, 2**32))
def test_paired_properties(values: list[tuple[float, float]], seed: int) -> None:
    before, after = [b for b, _ in values], [a for _, a in values]
    result, swapped = paired_difference(before, after, seed), paired_difference(after, before, seed)
    figure, mirror = result.difference, swapped.difference
    assert result.p_value is not None and 0 < result.p_value <= 1
    assert swapped.p_value == result.p_value
    assert (swapped.better, swapped.worse) == (result.worse, result.better)
    assert figure.value is not None and mirror.value == -figure.value
    if len(values) == 1:
        assert figure.low is figure.high is None
    else:
        low, value, high = bounds(figure)
        assert low <= value <= high
        assert (mirror.low, mirror.high) == (-high, -low)


@pytest.mark.parametrize(("n", "better", "worse"), [(100, 0.2, 0.1), (200, 0.1, 0.04)])
def test_the_paired_interval_covers_the_truth_for_single_samples(n: int, better: float, worse: float) -> None:
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        gap = random.choice([1, 0, -1], p=[better, 1 - better - worse, worse], size=n)
        before = np.where(gap == -1, 1, np.where(gap == 1, 0, random.integers(0, 2, n)))
        low, _, high = bounds(paired_difference(before.tolist(), (before + gap).tolist(), seed=0).difference)
        hits += low <= better - worse <= high
    assert 0.90 <= hits / 300 <= 0.99


def test_the_paired_interval_covers_the_truth_for_several_samples() -> None:
    """Answers to one prompt share its difficulty: an interval over single answers would cover far less."""
    random = np.random.default_rng(12)
    by_prompt = by_answer = 0
    for _ in range(300):
        gain = random.choice([0.5, -0.3], size=40)  # mean .1
        before, after = (random.binomial(1, rate[:, None], (40, 8)) for rate in (np.full(40, 0.4), 0.4 + gain))
        low, _, high = bounds(mean_interval(list((after.mean(1) - before.mean(1)).tolist())))
        clusters = [i for i in range(40) for _ in range(8)]
        flat = [x.ravel().astype(float).tolist() for x in (before, after)]
        clustered = bounds(paired_difference(*flat, seed=0, clusters=clusters).difference)
        assert clustered == pytest.approx((low, (low + high) / 2, high))
        by_prompt += low <= 0.1 <= high
        naive = bounds(mean_interval([b - a for a, b in zip(*flat, strict=True)]))
        by_answer += naive[0] <= 0.1 <= naive[2]
    assert 0.90 <= by_prompt / 300 <= 0.99
    assert by_answer / 300 < 0.85
