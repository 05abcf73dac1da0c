"""KTO's loss: values of the paper's formula, gradients, edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfalign.training.losses.unary import kl_estimate, kto_losses

#: Log-probabilities of any answer, in nats.
NATS = st.floats(-500, 0)


def numbers(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_reference_values() -> None:
    """methods.md, fixture F: a = 2, b = -5, beta .1, z0 .5."""
    losses = kto_losses(numbers(-40, -55), numbers(-42, -50), torch.tensor([True, False]), 0.5, 0.1)
    assert losses.tolist() == pytest.approx([0.4626, 0.3659], abs=5e-5)
    assert losses.tolist() == pytest.approx([1 - sigmoid(0.1 * (2 - 0.5)), 1 - sigmoid(0.1 * (0.5 + 5))])


def test_at_the_reference_every_row_is_half_its_weight() -> None:
    losses = kto_losses(numbers(-7, -9), numbers(-7, -9), torch.tensor([True, False]), 0.0, 0.3, 1.5, 3.0)
    assert losses.tolist() == [0.75, 1.5]


def test_z0_is_the_mean_log_ratio_and_never_below_0() -> None:
    assert kl_estimate(numbers(-3, -4), numbers(-4, -6)).item() == 1.5
    assert kl_estimate(numbers(-3, -9), numbers(-4, -6)).item() == 0


def test_z0_has_no_gradient() -> None:
    policy = numbers(-3, -4).requires_grad_()
    z0 = kl_estimate(policy, numbers(-4, -6))
    assert z0.item() == 1.5 and not z0.requires_grad


def test_gradients() -> None:
    labels = torch.tensor([True, False, True])

    def losses(log_probs: Any) -> Any:
        return kto_losses(log_probs, numbers(-42, -50, -3), labels, 0.5, 0.1, 1.2, 0.7)

    assert torch.autograd.gradcheck(losses, (numbers(-40, -55, -3.3).requires_grad_(),))


def test_far_from_the_reference_there_is_neither_overflow_nor_a_lost_digit() -> None:
    """1 - sigmoid(x) is exactly 0 from x = 37 on; the loss has to keep a gradient there."""
    policy = torch.tensor([500.0, -5000.0], requires_grad=True)
    losses = kto_losses(policy, torch.zeros(2), torch.tensor([True, True]), torch.tensor(0.0), 0.1)
    assert losses.tolist() == pytest.approx([math.exp(-50), 1.0])
    losses.sum().backward()
    assert policy.grad is not None and torch.isfinite(policy.grad).all() and policy.grad[0] < 0


@given(st.lists(st.tuples(NATS, NATS, st.booleans()), min_size=1, max_size=8), st.floats(0, 50), st.floats(0.01, 1))
def test_losses_lie_between_0_and_the_class_weight(
    rows: list[tuple[float, float, bool]], z0: float, beta: float
) -> None:
    policy, reference, labels = zip(*rows, strict=True)
    losses = kto_losses(numbers(*policy), numbers(*reference), torch.tensor(labels), z0, beta, 2.0, 3.0)
    for loss, wanted in zip(losses.tolist(), labels, strict=True):
        assert 0 <= loss <= (2.0 if wanted else 3.0)


@given(NATS, NATS, st.floats(0, 50), st.floats(0.01, 1))
def test_a_label_and_its_opposite_share_their_weight(a: float, b: float, z0: float, beta: float) -> None:
    both = kto_losses(numbers(a, a), numbers(b, b), torch.tensor([True, False]), z0, beta)
    assert both.sum().item() == pytest.approx(1)
