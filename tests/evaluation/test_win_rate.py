from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.evaluation.statistics import bootstrap_interval, wilson
from selfalign.evaluation.win_rate import Preference, length_controlled_win_rate, win_rate

preferences = st.lists(
    st.builds(
        Preference, st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 300),
        st.integers(0, 300),
    ),
    max_size=20,
)  # fmt: skip


def judged(n: int, model: float, bias: float, shift: float, seed: int = 0) -> list[Preference]:
    """``n`` answers longer by ``shift`` standard deviations on average, before a judge with a length bias."""
    random = np.random.default_rng(seed)
    difference = 30 * random.normal(shift, 1, n)
    chance = 1 / (1 + np.exp(-(model + bias * np.tanh(difference / 30))))
    wins = random.random(n) < chance
    return [Preference(f"p{i}", float(w), 200 + d, 200) for i, (w, d) in enumerate(zip(wins, difference, strict=True))]


def swapped(found: list[Preference]) -> list[Preference]:
    return [Preference(p.prompt_id, 1 - p.value, p.other_length, p.length) for p in found]


def test_ties_count_half_and_prompts_weigh_the_same() -> None:
    found = win_rate(
        [Preference("a", 1, 1, 1), Preference("a", 0, 1, 1), Preference("b", 1, 1, 1), Preference("c", 0.5, 1, 1)], 0
    )
    assert (found.value, found.n) == (pytest.approx((0.5 + 1 + 0.5) / 3), 3)


def test_a_length_biased_judge_moves_the_raw_rate_and_not_the_controlled_one() -> None:
    """Equally good models, one wordier, a judge that likes long answers: 20 simulated comparisons."""
    raw, controlled, covered = [], [], 0
    for seed in range(20):
        data = judged(300, model=0, bias=2, shift=0.8, seed=seed)
        raw.append(win_rate(data, seed).value or 0)
        rate = length_controlled_win_rate(data, seed, resamples=200).rate
        assert rate.value is not None and rate.low is not None and rate.high is not None
        controlled.append(rate.value)
        covered += rate.low <= 0.5 <= rate.high
    assert np.mean(raw) > 0.68
    assert np.mean(controlled) == pytest.approx(0.5, abs=0.02)
    assert covered >= 17


def test_a_better_model_stays_better() -> None:
    found = length_controlled_win_rate(judged(2000, model=0.7, bias=2, shift=-0.8), 0)
    assert found.rate.value == pytest.approx(1 / (1 + math.exp(-0.7)), abs=0.04)
    assert found.length is not None and found.length > 1
    assert found.mean_difference == pytest.approx(-0.8, abs=0.1)


def test_without_differences_of_length_both_rates_agree() -> None:
    data = [Preference(f"p{i}", float(i % 4 > 0), 50, 50) for i in range(400)]
    assert length_controlled_win_rate(data, 0).rate.value == pytest.approx(0.75, abs=1e-4)


def test_a_constant_difference_cannot_be_told_from_the_model() -> None:
    data = [Preference(f"p{i}", float(i % 2), 60, 50) for i in range(20)]
    found = length_controlled_win_rate(data, 0)
    assert (found.rate.value, found.rate.n, found.model) == (None, 20, None)


def test_a_clean_sweep_has_the_doubt_that_its_n_has() -> None:
    data = [Preference(f"p{i}", 1.0, 50 + i, 50) for i in range(12)]
    assert win_rate(data, 0) == wilson(12, 12)
    found = length_controlled_win_rate(data, 0).rate
    assert found.value is not None and found.value > 0.99
    assert found.low == wilson(12, 12).low


def test_one_prompt_or_none_has_no_interval() -> None:
    assert win_rate([], 0).n == 0
    assert length_controlled_win_rate([], 0).rate.n == 0
    assert win_rate([Preference("a", 1, 2, 1)], 0).low is None
    assert length_controlled_win_rate([Preference("a", 1, 2, 1)], 0).rate.value is None


@settings(max_examples=60, deadline=None)
@given(preferences)
def test_swapping_the_models_mirrors_every_figure(found: list[Preference]) -> None:
    forth, back = win_rate(found, 1), win_rate(swapped(found), 1)
    assert forth.n == back.n
    if forth.value is not None and back.value is not None:
        assert forth.value + back.value == pytest.approx(1)
    one = length_controlled_win_rate(found, 1, resamples=20).rate
    other = length_controlled_win_rate(swapped(found), 1, resamples=20).rate
    if one.value is not None and other.value is not None:
        assert one.value + other.value == pytest.approx(1)
        assert one.low is not None and one.high is not None
        assert 0 <= one.low <= one.value <= one.high <= 1


def test_the_bootstrap_covers_as_it_says() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        found = bootstrap_interval(random.choice([0, 0.5, 1], 80, p=[0.3, 0.2, 0.5]), seed, resamples=400)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.6 <= found.high
    assert 180 <= covered <= 199
