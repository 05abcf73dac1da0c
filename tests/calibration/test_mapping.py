from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.calibration.mapping import (
    MIN_PAIRS,
    calibration_error,
    cross_fitted,
    fit,
    fit_scale,
    probability,
    smallest_margin,
)


def drawn(n: int, k: float, seed: int) -> list[float]:
    """Differences better - worse of a judge for whom P(better wins) is sigmoid(k d) exactly."""
    random_ = random.Random(seed)
    found = []
    for _ in range(n):
        size = random_.uniform(0, 2)
        found.append(size if random_.random() < probability(k, size) else -size)
    return found


def test_a_known_scale_is_found() -> None:
    assert fit_scale(drawn(4000, 1.5, 1)) == pytest.approx(1.5, rel=0.1)
    assert fit_scale(drawn(4000, -0.7, 2)) == pytest.approx(-0.7, rel=0.15), "an inverted judge is told from a good one"


def test_the_unit_of_scores_does_not_matter() -> None:
    data = drawn(200, 2.0, 3)
    assert fit_scale([1000 * d for d in data]) * 1000 == pytest.approx(fit_scale(data), rel=1e-6)


def test_a_judge_that_never_errs_or_never_decides_has_a_finite_scale() -> None:
    assert 0 < fit_scale([0.5] * 300) < 100
    assert fit_scale([0.0] * 5) == fit_scale([]) == 0


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_swapping_the_answers_turns_the_probability_round(k: float, difference: float) -> None:
    assert probability(k, difference) + probability(k, -difference) == pytest.approx(1)


def test_calibration_error_by_hand() -> None:
    # Ten times 0.9 of which seven are right (p of the better answer 0.1 where wrong), ten times 0.6 all right.
    value, bins = calibration_error([0.9] * 7 + [0.1] * 3 + [0.6] * 10, bins=2)
    assert [(b.n, round(b.confidence, 6), round(b.accuracy, 6)) for b in bins] == [(10, 0.6, 1.0), (10, 0.9, 0.7)]
    assert value == pytest.approx(0.5 * 0.4 + 0.5 * 0.2)
    assert calibration_error([]) == (None, [])
    assert calibration_error([0.5] * 4)[0] == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_bins_hold_everything_once_and_keep_equals_together(probabilities: list[float]) -> None:
    value, bins = calibration_error(probabilities)
    assert sum(b.n for b in bins) == len(probabilities)
    assert len(bins) <= 10
    assert value is not None
    assert 0 <= value <= 1
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)


def test_an_honest_judge_has_a_small_error_and_a_boastful_one_a_large_one() -> None:
    data = drawn(3000, 1.5, 4)
    honest, _ = calibration_error([probability(1.5, d) for d in data])
    boastful, _ = calibration_error([probability(6.0, d) for d in data])
    assert honest is not None
    assert boastful is not None
    assert honest < 0.03 < 0.1 < boastful


def test_cross_fitting_is_by_prompt_and_deterministic() -> None:
    data, clusters = drawn(300, 1.0, 5), [f"p{i // 3}" for i in range(300)]
    found = cross_fitted(data, clusters)
    assert found == cross_fitted(data, clusters)
    reverse = cross_fitted(data[::-1], clusters[::-1])[::-1]
    assert found == pytest.approx(reverse, abs=1e-6)
    assert fit_scale(data) == pytest.approx(1.0, rel=0.35)


def test_the_smallest_margin_that_is_good_enough() -> None:
    # At 3: 10 of 10. From 2 on: 17 of 20 right. From 1 on: 20 of 30.
    data = [3.0] * 10 + [2.0] * 7 + [-2.0] * 3 + [1.0] * 3 + [-1.0] * 7 + [0.0] * 10
    found = smallest_margin(data, 0.8)
    assert found is not None
    assert (found.min_margin, found.share) == (2.0, 0.5)
    assert found.accuracy.value == pytest.approx(0.85)
    assert smallest_margin(data, 0.9) is None, f"ten pairs are too few: {MIN_PAIRS} are needed"
    assert smallest_margin(data, 0.9, min_pairs=10) is not None
    assert smallest_margin([0.0] * 50, 0.5) is None


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0]), max_size=60))
def test_the_margin_keeps_its_promise(data: list[float]) -> None:
    found = smallest_margin(data, 0.75, min_pairs=5)
    kept = [d for d in data if found and abs(d) >= found.min_margin]
    if found:
        assert sum(d > 0 for d in kept) / len(kept) >= 0.75
        assert found.accuracy.n == len(kept) >= 5
    for margin in {abs(d) for d in data if d and (found is None or abs(d) < found.min_margin)}:
        more = [d for d in data if abs(d) >= margin]
        assert len(more) < 5 or sum(d > 0 for d in more) / len(more) < 0.75


def test_a_fit_is_plain_data() -> None:
    found = fit(drawn(200, 2.0, 6), 0.8).as_dict()
    assert set(found) == {"k", "n", "target", "margin"}
    assert math.isfinite(found["k"])
