"""The sampler against the distribution it should have, and the paper's algorithm with its known bias."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from selfalign.resampling.rejection import acceptance, effective_size, iid, in_passes

reward_lists = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20).map(np.array)
betas = st.floats(min_value=5e-324, allow_infinity=False)
seeds = st.integers(0, 2**32)


def stream(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def test_acceptance_is_softmax_up_to_a_factor() -> None:
    rewards = np.array([0.0, 0.5 * math.log(2), -3.0])
    # exp((0 - 0.5 ln 2) / 0.5) = 1/2, exp((-3 - 0.5 ln 2) / 0.5) = exp(-6) / 2
    assert acceptance(rewards, 0.5) == pytest.approx([0.5, 1.0, math.exp(-6) / 2])
    assert acceptance(np.array([7.0, 7.0]), 0.5).tolist() == [1.0, 1.0]
    assert acceptance(np.array([1e308, -1e308]), 1e-300).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="finite"):
        in_passes(np.array([0.0, math.nan]), 1, 0.5, stream(0))


@pytest.mark.parametrize("case", range(20))
def test_iid_draws_have_the_distribution_softmax_of_reward_over_beta(case: int) -> None:
    """Chi-square at 1 % over all 20 cases together (Bonferroni)."""
    random = np.random.default_rng(case)
    rewards = random.normal(scale=2, size=int(random.integers(2, 17)))
    beta, n = float(random.uniform(0.2, 2)), 20_000
    wanted = np.exp((rewards - rewards.max()) / beta)
    found = np.bincount(iid(rewards, n, beta, stream(case)), minlength=len(rewards))
    cells = large_cells(found, n * wanted / wanted.sum())
    assert stats.chisquare(*cells).pvalue > 0.01 / 20


def large_cells(found: NDArray[np.int64], expected: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both with their rarest cells as one, so that 5 or more are expected in each."""
    order = expected.argsort()
    rare = int((expected[order].cumsum() < 5).sum()) + 1
    first = np.array([found[order][:rare].sum()]), np.array([expected[order][:rare].sum()])
    return np.append(first[0], found[order][rare:]), np.append(first[1], expected[order][rare:])


def test_iid_draws_do_not_depend_on_the_one_before() -> None:
    rewards = np.array([0.0, 0.3, 0.8])
    drawn = np.array(iid(rewards, 30_000, 0.5, stream(0)))
    table = np.zeros((3, 3))
    np.add.at(table, (drawn[:-1:2], drawn[1::2]), 1)
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_iid_draws_more_than_there_are() -> None:
    assert iid(np.array([1.0]), 5, 0.5, stream(0)) == [0] * 5
    assert set(iid(np.array([0.0, 1000.0]), 9, 1e-3, stream(0))) == {1}
    assert len(iid(np.zeros(3), 1000, 0.5, stream(0))) == 1000


def share_of_best(rewards: list[float], best: int, beta: float, repeats: int = 20_000) -> float:
    random = stream(1)
    return sum(in_passes(np.array(rewards), 1, beta, random) == [best] for _ in range(repeats)) / repeats


def test_algorithm_1_depends_on_the_order() -> None:
    """r = [0, beta ln 2], n = 1: the first is accepted with exp(-ln 2) = 1/2, else the second; 4 sigma is 0.014."""
    beta = 0.5
    better = beta * math.log(2)
    assert share_of_best([0.0, better], 1, beta) == pytest.approx(0.5, abs=0.015)
    assert share_of_best([better, 0.0], 0, beta) == 1.0
    # Exactly is softmax: 2/3.
    drawn = iid(np.array([0.0, better]), 20_000, beta, stream(1))
    assert sum(drawn) / len(drawn) == pytest.approx(2 / 3, abs=0.015)


@pytest.mark.parametrize(("candidates", "repeats", "expected"), [(64, 600, 1.33), (2000, 60, 1.96)])
def test_mean_reward_of_8_accepted_from_a_normal_distribution(candidates: int, repeats: int, expected: float) -> None:
    """N(0, 1) rewards and beta 0.5 tend to N(1 / beta, 1), mean 2, as candidates become many."""
    random = np.random.default_rng(0)
    means = []
    for seed in range(repeats):
        rewards = random.normal(size=candidates)
        means.append(rewards[in_passes(rewards, 8, 0.5, stream(seed))].mean())
    assert np.mean(means) == pytest.approx(expected, abs=4 * np.std(means) / math.sqrt(repeats))
    assert np.std(means) / math.sqrt(repeats) < 0.05


@settings(max_examples=150, deadline=None)
@given(reward_lists, st.integers(1, 30), betas, seeds)
def test_algorithm_1_accepts_different_ones(rewards: NDArray[np.float64], n: int, beta: float, seed: int) -> None:
    accepted = in_passes(rewards, n, beta, stream(seed))
    assert len(accepted) == len(set(accepted)) == min(n, len(rewards))
    assert set(accepted) <= set(range(len(rewards)))
    assert accepted == in_passes(rewards, n, beta, stream(seed))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20, unique=True), st.integers(1, 20), seeds)
def test_the_limits_of_beta(rewards: list[int], n: int, seed: int) -> None:
    values = np.array(rewards, dtype=np.float64)
    best = sorted(range(len(rewards)), key=lambda i: -rewards[i])[:n]
    assert in_passes(values, n, 1e-9, stream(seed)) == best
    assert in_passes(values, n, 1e30, stream(seed)) == list(range(len(rewards)))[:n]
    assert set(iid(values, n, 1e-9, stream(seed))) == {best[0]}


@settings(max_examples=100, deadline=None)
@given(reward_lists, betas, seeds)
def test_iid_draws_exactly_n(rewards: NDArray[np.float64], beta: float, seed: int) -> None:
    drawn = iid(rewards, 9, beta, stream(seed))
    assert len(drawn) == 9 and set(drawn) <= set(range(len(rewards)))


def test_effective_size() -> None:
    assert effective_size(np.ones(5)) == pytest.approx(5)
    assert effective_size(np.array([1.0, 0.0, 0.0])) == 1
    # (1 + 1/2)^2 / (1 + 1/4)
    assert effective_size(np.array([1.0, 0.5])) == pytest.approx(1.8)
    assert effective_size(np.zeros(3)) == 0
