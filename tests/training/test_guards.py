from __future__ import annotations

import math

import pytest

from selfalign.errors import GuardFailed
from selfalign.training.guards import (
    FLOAT32,
    check_changed,
    check_log_probs,
    check_loss,
)


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
