from __future__ import annotations

import math

import pytest

from selfalign.errors import GuardFailed
from selfalign.training.guards import (
    FLOAT32,
    check_changed,
    check_log_probs,
    check_loss,
    expected_dpo_loss,
)


def test_expected_loss_is_ln_2_where_reference_is_parent() -> None:
    values = [-40.0, -12.5, -55.0, -3.0]
    assert expected_dpo_loss(values, values, [1.0, 1.0], beta=0.1) == pytest.approx(math.log(2))


def test_expected_loss_of_the_reference_fixture() -> None:
    # methods.md, fixture F: a = 2, b = -5, h = 7, beta .1 -> -log sigmoid(.7) = .4032
    assert expected_dpo_loss([-40, -55], [-42, -50], [1.0], beta=0.1) == pytest.approx(0.4032, abs=5e-5)


def test_expected_loss_of_huge_ratios_does_not_overflow() -> None:
    assert expected_dpo_loss([-1e5, 0.0], [0.0, 0.0], [1.0], beta=1.0) == pytest.approx(1e5)


def test_weights_scale_their_pairs() -> None:
    loss = expected_dpo_loss([-1, -1, -1, -1], [-1, -1, -1, -1], [2.0, 0.5], beta=0.1)
    assert loss == pytest.approx(1.25 * math.log(2))


@pytest.mark.parametrize("observed", [0.70, float("nan")])
def test_a_wrong_loss_stops_training_and_shows_both_numbers(observed: float) -> None:
    with pytest.raises(GuardFailed, match=rf"{observed:.6f}, expected 0\.693147"):
        check_loss(observed, math.log(2), FLOAT32)


def test_a_loss_within_rounding_passes() -> None:
    check_loss(math.log(2) + 5e-5, math.log(2), FLOAT32)


@pytest.mark.parametrize("policy", [-10.1, float("nan")])
def test_a_policy_that_is_not_the_parent_stops_training(policy: float) -> None:
    with pytest.raises(GuardFailed, match=r"its parent checkpoint -10\.0000"):
        check_log_probs([-3.0, policy], [-3.0, -10.0], FLOAT32)


def test_the_largest_gap_is_reported() -> None:
    assert check_log_probs([-3.0, -10.0002], [-3.0001, -10.0], FLOAT32) == pytest.approx(2e-4)


def test_training_that_changed_nothing_is_an_error_only_where_it_should_have() -> None:
    with pytest.raises(GuardFailed, match="training changed nothing"):
        check_changed("abc", "abc", steps=3, learning_rate=1e-6)
    check_changed("abc", "abc", steps=3, learning_rate=0.0)
    check_changed("abc", "abc", steps=0, learning_rate=1e-6)
    check_changed("abc", "abd", steps=3, learning_rate=1e-6)
