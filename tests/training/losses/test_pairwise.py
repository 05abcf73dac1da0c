from __future__ import annotations

import dataclasses
import inspect
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selfalign.pairing.strength import preference_loss
from selfalign.training.losses import pairwise
from selfalign.training.losses.objective import expected_loss, pair_losses
from selfalign.training.losses.pairwise import PairBatch
from selfalign.training.losses.pairwise_settings import DPO, LOSSES, SFT, PairLoss


def batch(
    chosen: Any = -40.0,
    rejected: Any = -55.0,
    lengths: tuple[int, int] = (20, 25),
    reference: Any = (-42.0, -50.0),
    **more: Any,
) -> PairBatch:
    """One pair (numbers) or several (lists) in float64; by default a = 2, b = -5, h = 7, m_w = -2, m_l = -2.2."""

    def column(value: Any) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64).reshape(-1)

    n = len(column(chosen))
    frozen = {} if reference is None else {"ref_chosen": column(reference[0]), "ref_rejected": column(reference[1])}
    return PairBatch(
        column(chosen), column(rejected), column([lengths[0]] * n), column([lengths[1]] * n),
        **frozen, **{name: column(value) for name, value in more.items()},
    )  # fmt: skip


def value(loss: str, of: PairBatch | None = None, **hyperparameters: Any) -> float:
    """The loss of the first pair, with the defaults of its settings."""
    settings = LOSSES[loss](**hyperparameters)
    return float(pair_losses([settings], of or batch())[0])


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "hyperparameters", "expected"),
    [
        ("dpo", {"beta": 0.1}, 0.4032),  # -log s(.7)
        ("dpo", {"beta": 0.05}, 0.5334),  # RSO's sigmoid-norm: -log s(.35)
        ("cdpo", {"label_smoothing": 0.1}, 0.4732),
        ("cdpo", {"label_smoothing": 0.2}, 0.5432),
        ("robust_dpo", {"label_smoothing": 0.1}, 0.3157),
        ("sigmoid_norm", {"beta": 5}, 0.2014),  # -log s(5 (2/20 + 5/25))
        ("dpop", {}, 0.1155),  # a > 0: -log s(.3 * 7)
        ("rpo", {}, 2.4032),  # .4032 + 2.0
        ("simpo", {"beta": 2, "simpo_gamma": 1}, 1.0375),  # -log s(2 * .2 - 1)
        ("simpo", {}, 1.2234),  # beta 2.5, gamma / beta .55
        ("cpo", {}, 2.2014),  # -log s(.1 * 15) + 2.0
        ("orpo", {}, 2.0586),  # 2.0 + .1 * .5856
        ("hinge_norm", {}, 0.65),  # 1 - .05 * 7
        ("hinge", {}, 0.25),  # 1 - .05 * 15
        ("slic", {"slic_lambda": 0}, 0.0),  # 1 - 15 < 0
        ("slic", {}, 4.0),  # 0 + .1 * 40
        ("ipo", {"length_average": False}, 4.0),  # (7 - 5)^2
        ("ipo", {}, 22.09),  # (2/20 + 5/25 - 5)^2
        ("sppo", {"beta": 0.1, "hard": True}, 4.5),  # ((2 - 5)^2 + (-5 + 5)^2) / 2
        ("apo_zero", {}, 0.8277),  # 1 - s(.2) + s(-.5)
        ("apo_down", {}, 0.8816),  # s(.2) + 1 - s(.7)
        ("sft", {}, 2.0),
    ],
)
def test_the_reference_fixture(loss: str, hyperparameters: dict[str, Any], expected: float) -> None:
    assert value(loss, **hyperparameters) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("gap", "expected"), [(3, 0.9122), (1, 0.4032), (0.5, 0.2218)])
def test_the_offset_of_odpo_grows_with_the_gap(gap: float, expected: float) -> None:
    assert value("odpo", batch(margin=gap)) == pytest.approx(expected, abs=5e-5)


def test_sppo_draws_log_ratios_to_win_rates() -> None:
    # ((2 - .2 / .1)^2 + (-5 + .2 / .1)^2) / 2
    assert value("sppo", batch(chosen_score=0.7, rejected_score=0.3), beta=0.1) == pytest.approx(4.5)
    assert value("sppo", batch(chosen_score=1.0, rejected_score=0.0), beta=0.1) == value("sppo", beta=0.1, hard=True)


def test_dpop_punishes_a_fall_that_dpo_does_not_see() -> None:
    fallen = batch(chosen=-45, rejected=-60)  # a = -3, b = -10: h = 7 as before
    assert value("dpo", fallen) == value("dpo")
    assert value("dpop", fallen) == pytest.approx(42.9, abs=5e-2)
    assert value("dpop", fallen, dpop_lambda=5) == pytest.approx(2.487, abs=5e-4)


def test_the_hinge_of_slic_works_where_the_order_is_wrong() -> None:
    assert value("slic", batch(chosen=-56), slic_lambda=0) == 2.0


@pytest.mark.parametrize(
    ("loss", "hyperparameters", "expected"),
    [
        ("dpo", {}, math.log(2)), ("cdpo", {}, math.log(2)), ("robust_dpo", {}, math.log(2)), ("dpop", {}, math.log(2)),
        ("sigmoid_norm", {}, math.log(2)), ("hinge_norm", {}, 1.0), ("ipo", {}, 25.0), ("apo_zero", {}, 1.0),
        ("apo_down", {}, 1.0), ("sppo", {"beta": 0.1, "hard": True}, 25.0),
    ],
)  # fmt: skip
def test_where_the_policy_is_the_reference(loss: str, hyperparameters: dict[str, Any], expected: float) -> None:
    assert value(loss, batch(reference=(-40, -55)), **hyperparameters) == pytest.approx(expected)


def test_margin_and_smoothing_of_secrets_of_rlhf() -> None:
    """A reward difference of 1.2: .2633, with smoothing .1 .3833, with margin .5 .4031 (pairing/strength.py has the same)."""
    pair = batch(chosen=-30, reference=(-42, -55), margin=0.5, smoothing=0.1)  # h = 12
    assert value("dpo", pair) == pytest.approx(preference_loss(1.2)) == pytest.approx(0.2633, abs=5e-5)
    for smoothing in (0.1, "pair"):
        smoothed = value("cdpo", pair, label_smoothing=smoothing)
        assert smoothed == pytest.approx(preference_loss(1.2, label_smoothing=0.1)) == pytest.approx(0.3833, abs=5e-5)
    spaced = value("dpo", pair, margin_scale=1)
    assert spaced == pytest.approx(preference_loss(1.2, margin=0.5)) == pytest.approx(0.4032, abs=5e-5)
    both = value("cdpo", pair, margin_scale=2, label_smoothing="pair")
    assert both == pytest.approx(preference_loss(1.2, margin=1.0, label_smoothing=0.1))


def test_the_odds_ratio_is_trls() -> None:
    """Its ORPO's NLL covers prompts as well, so only the other term can be compared."""
    from trl.experimental.orpo import ORPOTrainer

    pairs = batch(chosen=[-40.0, -3.0, -90.0], rejected=[-55.0, -50.0, -1.0], reference=None)
    trainer = SimpleNamespace(beta=0.25, accelerator=SimpleNamespace(device="cpu"))
    theirs = ORPOTrainer.odds_ratio_loss(trainer, *pairs.means())[0]
    ours = pair_losses([LOSSES["orpo"](orpo_lambda=0.25)], pairs) - pairwise.sft(pairs)
    assert ours.tolist() == pytest.approx((-theirs).tolist(), rel=1e-5)


def test_terms_add_up_by_their_weights() -> None:
    terms = [DPO(weight=0.5), SFT(weight=0.2)]
    assert float(pair_losses(terms, batch())) == pytest.approx(0.5 * 0.4032 + 0.2 * 2.0, abs=5e-5)


def test_the_nll_counts_tokens_over_pairs_as_trl_does() -> None:
    pairs = PairBatch(*(torch.tensor(x) for x in ([-4.0, -30.0], [-1.0, -1.0], [2, 6], [1, 1])))
    assert pairwise.sft(pairs).mean() == pytest.approx(34 / 8)
    assert pairwise.weighted_nll(pairs.chosen, torch.tensor([1.0, 2.0]), 8) == pytest.approx(64 / 8)
    assert (torch.tensor([1.0, 2.0]) * pairwise.sft(pairs)).mean() == pytest.approx(64 / 8)


# -- settings and functions ----------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_settings_are_the_functions_hyperparameters(name: str) -> None:
    function = LOSSES[name]().function()
    parameters = list(inspect.signature(function).parameters)
    assert set(parameters[1:]) == set(LOSSES[name].model_fields) - set(PairLoss.model_fields)
    assert (function.__doc__ or "").count("arXiv") or name in ("cdpo", "sft")


def everything(n: int = 1, **values: Any) -> PairBatch:
    return batch(
        **{
            "margin": [2.0] * n,
            "chosen_score": [0.7] * n,
            "rejected_score": [0.3] * n,
            "smoothing": [0.1] * n,
            **values,
        }
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_needs_a_reference_where_its_settings_say_so(name: str) -> None:
    alone = everything(reference=None)
    if LOSSES[name].needs_reference:
        with pytest.raises(ValueError, match="the loss reads 'ref_chosen', which these pairs do not have"):
            value(name, alone)
    else:
        assert value(name, alone) == value(name, everything())


@pytest.mark.parametrize(
    ("name", "hyperparameters", "reads"),
    [
        ("dpo", {"margin_scale": 1}, "margin"), ("odpo", {}, "margin"), ("cdpo", {"label_smoothing": "pair"}, "smoothing"),
        ("sppo", {}, "chosen_score"),
    ],
)  # fmt: skip
def test_a_missing_column_is_named(name: str, hyperparameters: dict[str, Any], reads: str) -> None:
    assert reads in LOSSES[name](**hyperparameters).reads()
    with pytest.raises(ValueError, match=f"the loss reads '{reads}'"):
        value(name, **hyperparameters)


# -- gradients and edges -------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_float64(name: str) -> None:
    # Both sides of every kink: h is 7, -4, 40; the chosen answers of the first and last have gained, the second lost.
    points = everything(
        3, chosen=[-40.0, -46.0, -20.0], rejected=[-55.0, -50.0, -62.0], reference=([-42.0] * 3, [-50.0] * 3)
    )

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return pair_losses([LOSSES[name]()], dataclasses.replace(points, chosen=chosen, rejected=rejected))

    sides = (points.chosen.requires_grad_(), points.rejected.requires_grad_())
    assert torch.autograd.gradcheck(loss, sides)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_extremes_stay_finite(name: str, dtype: torch.dtype) -> None:
    """Ratios of +-1e4, certain answers (m = 0), equal sides."""
    ends = [0.0, 0.0, -1e4, -1e4, -40.0, -1e-6]
    chosen, rejected = torch.tensor(ends, dtype=dtype), torch.tensor([0.0, -1e4, 0.0, -1e4, -40.0, -1e-30], dtype=dtype)
    chosen.requires_grad_(), rejected.requires_grad_()
    columns = {
        "margin": [1e4, 1e-4, 1e4, 1e-4, 1.0, 1.0], "smoothing": [0.0, 0.5, 0.0, 0.5, 0.1, 0.1],
        "chosen_score": [1.0, 0.0, 1.0, 0.0, 0.5, 0.5], "rejected_score": [0.0, 1.0, 0.0, 1.0, 0.5, 0.5],
        "ref_chosen": [-40.0] * 6, "ref_rejected": [-40.0] * 6,
        "chosen_length": [20] * 6, "rejected_length": [1] * 6,
    }  # fmt: skip
    given = PairBatch(chosen, rejected, **{key: torch.tensor(value, dtype=dtype) for key, value in columns.items()})
    losses = pair_losses([LOSSES[name]()], given)
    assert losses.isfinite().all()
    gradients = torch.autograd.grad(losses.sum(), (chosen, rejected), allow_unused=True)
    assert all(g.isfinite().all() for g in gradients if g is not None)


def test_the_odds_of_orpo_keep_their_precision() -> None:
    """Nearly certain and nearly impossible answers, against log1p in float64."""
    for mean in (-1e-6, -0.1, -0.69, -0.7, -3.0, -80.0):
        exact = mean - math.log(-math.expm1(mean))
        assert float(pairwise._log_odds(torch.tensor(mean, dtype=torch.float64))) == pytest.approx(exact, rel=1e-12)
    assert float(pairwise._log_odds(torch.tensor(-1e-6))) == pytest.approx(-1e-6 - math.log(1e-6), rel=1e-5)


def test_an_empty_completion_is_one_clear_error() -> None:
    lengths = [torch.tensor(x) for x in ([3, 2], [4, 0])]
    with pytest.raises(ValueError, match="pair 1 of the batch has an empty completion"):
        PairBatch(torch.zeros(2), torch.zeros(2), *lengths)


def test_fields_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"margin has shape \(2,\), chosen \(1,\)"):
        batch(margin=[1.0, 2.0])


# -- properties ----------------------------------------------------------------------------------

NATS = st.floats(-300, -0.01)
MONOTONE = [
    name for name in LOSSES
    # These have a target of their own, or weigh the wrong label too.
    if name not in ("ipo", "sppo", "cdpo", "robust_dpo", "apo_down", "sft")
]  # fmt: skip


@pytest.mark.parametrize("name", MONOTONE)
@given(chosen=NATS, rejected=NATS, ref_w=NATS, ref_l=NATS, step=st.floats(0.01, 50))
def test_better_pairs_never_cost_more(
    name: str, chosen: float, rejected: float, ref_w: float, ref_l: float, step: float
) -> None:
    def at(w: float, x: float) -> float:
        return value(name, everything(chosen=w, rejected=x, reference=(ref_w, ref_l)))

    now = at(chosen, rejected)
    assert at(min(chosen + step, 0.0), rejected) <= now + 1e-9
    assert at(chosen, rejected - step) <= now + 1e-9


@given(chosen=NATS, rejected=NATS, ref_w=NATS, ref_l=NATS, e=st.floats(0, 0.49), beta=st.floats(0.01, 1))
def test_symmetries(chosen: float, rejected: float, ref_w: float, ref_l: float, e: float, beta: float) -> None:
    one = batch(chosen=chosen, rejected=rejected, reference=(ref_w, ref_l))
    other = batch(chosen=rejected, rejected=chosen, reference=(ref_l, ref_w), lengths=(25, 20))
    h = (chosen - ref_w) - (rejected - ref_l)
    close = {"rel": 1e-9, "abs": 1e-9}
    # Exchanging the sides changes DPO's loss by the reward difference.
    assert value("dpo", other, beta=beta) - value("dpo", one, beta=beta) == pytest.approx(beta * h, **close)
    # Smoothing by e is the mean over labels of which a share e is wrong ...
    mixed = (1 - e) * value("dpo", one, beta=beta) + e * value("dpo", other, beta=beta)
    assert value("cdpo", one, beta=beta, label_smoothing=e) == pytest.approx(mixed, **close)
    # ... and robust DPO undoes that mean: over such labels it expects DPO's loss of the right ones.
    robust = [value("robust_dpo", pair, beta=beta, label_smoothing=e) for pair in (one, other)]
    assert (1 - e) * robust[0] + e * robust[1] == pytest.approx(value("dpo", one, beta=beta), rel=1e-6, abs=1e-6)
    # IPO's two orders lie at the same distance from +-1 / (2 beta).
    roots = [math.sqrt(value("ipo", pair, beta=beta, length_average=False)) for pair in (one, other)]
    assert max(roots) == pytest.approx(abs(h) + 1 / (2 * beta), **close)


@given(chosen=NATS, rejected=NATS, wins=st.floats(0, 1), losses=st.floats(0, 1))
def test_sppo_does_not_know_which_side_is_chosen(chosen: float, rejected: float, wins: float, losses: float) -> None:
    one = batch(chosen=chosen, rejected=rejected, chosen_score=wins, rejected_score=losses)
    other = batch(
        chosen=rejected, rejected=chosen, reference=(-50.0, -42.0), chosen_score=losses, rejected_score=wins
    )  # fmt: skip
    assert value("sppo", one) == pytest.approx(value("sppo", other))


# -- what a trainer should find -------------------------------------------------------------------


def test_expected_loss_is_ln_2_and_as_sensitive_as_beta() -> None:
    start = batch(chosen=[-40.0, -12.5], rejected=[-55.0, -3.0], reference=([-40.0, -12.5], [-55.0, -3.0]))
    assert expected_loss([DPO(beta=0.3)], start, [1, 1]) == pytest.approx((math.log(2), 0.3))
    assert expected_loss([DPO()], start, [2.0, 0.5])[0] == pytest.approx(1.25 * math.log(2))


def test_expected_loss_of_huge_ratios_does_not_overflow() -> None:
    assert expected_loss([DPO(beta=1)], batch(-1e5, 0.0, reference=(0.0, 0.0)), [1])[0] == pytest.approx(1e5)


def test_a_loss_that_ignores_a_side_is_not_sensitive_to_it() -> None:
    assert expected_loss([SFT()], batch(reference=None), [1]) == pytest.approx((2.0, 1 / 20))


def test_rounding_beside_a_kink_is_expected() -> None:
    """DPOP with policy = reference: a chosen answer that loses a rounding error is punished 50 times."""
    start = batch(reference=(-40.0, -55.0))
    dpop = LOSSES["dpop"]()
    expected, sensitivity = expected_loss([dpop], start, [1], noise=1e-3)
    off = float(pair_losses([dpop], batch(chosen=-40.001, reference=(-40.0, -55.0)))[0])
    assert 1e-3 < off - expected < 1e-3 * sensitivity
