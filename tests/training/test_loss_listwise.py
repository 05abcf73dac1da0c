"""RRHF and PRO: values of the papers' formulas, gradients, ties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfalign.training.losses.listwise import (
    best_nll,
    length_normalised,
    pro_loss,
    pro_ranking_loss,
    rrhf_loss,
    rrhf_ranking_loss,
)


def numbers(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


VALUES, SCORES = (-1.0, -1.5, -0.8), (2.0, 1.0, 0.0)
LISTS = st.lists(
    st.tuples(st.floats(-20, 0), st.integers(0, 5).map(float)), min_size=1, max_size=7
)  # integer scores tie often
LOSSES: dict[str, Callable[..., Any]] = {
    "rrhf": rrhf_ranking_loss,
    "pro": pro_ranking_loss,
    "plain": lambda values, scores: pro_ranking_loss(values, scores, temperatures=False),
}


def test_the_reference_values() -> None:
    """methods.md, section 5."""
    assert rrhf_ranking_loss(numbers(*VALUES), numbers(*SCORES)).item() == pytest.approx(0.9)
    assert pro_ranking_loss(numbers(*VALUES), numbers(*SCORES)).item() == pytest.approx(2.5240, abs=5e-5)
    plain = pro_ranking_loss(numbers(*VALUES), numbers(*SCORES), temperatures=False)
    assert plain.item() == pytest.approx(2.1427, abs=5e-5)


@given(LISTS)
def test_rrhf_is_its_double_sum(rows: list[tuple[float, float]]) -> None:
    values, scores = zip(*rows, strict=True)
    expected = sum(max(0.0, p - q) for p, r in rows for q, s in rows if r < s)
    assert rrhf_ranking_loss(numbers(*values), numbers(*scores)).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperatures", [True, False])
@given(rows=LISTS)
def test_pro_is_its_sum_over_candidates(temperatures: bool, rows: list[tuple[float, float]]) -> None:
    expected = 0.0
    for p, r in rows:
        rest = [(q, r - s if temperatures else 1.0) for q, s in rows if s < r]
        if rest:
            own = math.exp(p * max(t for _, t in rest))
            expected -= math.log(own / (own + sum(math.exp(q * t) for q, t in rest)))
    values, scores = zip(*rows, strict=True)
    found = pro_ranking_loss(numbers(*values), numbers(*scores), temperatures)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@given(rows=LISTS, seed=st.randoms())
def test_the_order_of_a_list_does_not_matter(name: str, rows: list[tuple[float, float]], seed: Any) -> None:
    mixed = list(rows)
    seed.shuffle(mixed)
    losses = [LOSSES[name](*(numbers(*column) for column in zip(*some, strict=True))).item() for some in (rows, mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scores", [(1.0, 1.0, 1.0), (0.3, 0.1 + 0.2, 0.3), (2.0,)])
def test_equal_scores_rank_nothing(name: str, scores: tuple[float, ...]) -> None:
    """The published PRO would give log 3 + log 2 here, a constant."""
    values = numbers(*VALUES[: len(scores)]).requires_grad_()
    loss = LOSSES[name](values, numbers(*scores))
    assert loss.item() == 0
    loss.backward()
    assert values.grad is not None and values.grad.tolist() == [0.0] * len(scores)


@pytest.mark.parametrize("name", LOSSES)
def test_tied_candidates_are_not_held_against_each_other(name: str) -> None:
    """Each of the two best meets the worst alone."""
    loss = LOSSES[name]
    tied = loss(numbers(-1.0, -1.5, -0.8), numbers(2, 2, 0))
    apart = loss(numbers(-1.0, -0.8), numbers(2, 0)) + loss(numbers(-1.5, -0.8), numbers(2, 0))
    assert tied.item() == pytest.approx(apart.item())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scores", [SCORES, (1.0, 1.0, 0.0), (0.2, 0.9, 0.4)])
def test_gradients(name: str, scores: tuple[float, ...]) -> None:
    values = numbers(*VALUES).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: LOSSES[name](v, numbers(*scores)), (values,))


def test_unlikely_answers_do_not_overflow() -> None:
    """Sums instead of token means, as with length_penalty 0: e^-4000 is 0."""
    values = torch.tensor([-4000.0, -3000.0, -5000.0], requires_grad=True)
    loss = pro_ranking_loss(values, torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64))
    loss.backward()
    assert math.isfinite(loss.item()) and values.grad is not None and torch.isfinite(values.grad).all()


def test_values_are_normalised_by_length() -> None:
    sums, lengths = numbers(-40, -55), torch.tensor([20, 25])
    assert length_normalised(sums, lengths).tolist() == pytest.approx([-2.0, -2.2])
    assert length_normalised(sums, lengths, 0.0).tolist() == [-40, -55]
    assert length_normalised(sums, lengths, 0.5).tolist() == pytest.approx([-40 / 20**0.5, -11])


def test_the_best_is_learned_by_its_token_mean() -> None:
    sums, lengths = numbers(-40, -55, -9), torch.tensor([20, 25, 3])
    assert best_nll(sums, lengths, numbers(0, 2, 1)).item() == pytest.approx(2.2)
    assert best_nll(sums, lengths, numbers(2, 2, 1)).item() == pytest.approx(2.0), "the first of equals"


def test_both_terms_add_up() -> None:
    sums, lengths, scores = numbers(-20, -30, -8), torch.tensor([20, 20, 10]), numbers(*SCORES)
    ranking = 0.9  # the token means are VALUES
    assert rrhf_loss(sums, lengths, scores).item() == pytest.approx(ranking + 1.0)
    assert rrhf_loss(sums, lengths, scores, ranking_weight=100).item() == pytest.approx(90 + 1.0)
    assert pro_loss(sums, lengths, scores).item() == pytest.approx(2.5240 + 2 * 2**2 * 1.0, abs=5e-5)
    assert pro_loss(sums, lengths, scores, 0.05, False).item() == pytest.approx(2.1427 + 0.05 * 4, abs=5e-5)
