from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from selfalign.evaluation.displacement import Displacement
from selfalign.evaluation.statistics import wilson
from selfalign.types import Evaluation
from tests.evaluation.rounds import make_input

#: Fixture F of the method reference: a = 2, b = -5, beta .1.
F = {
    "chosen_displacement": 2.0, "rejected_displacement": -5.0, "reward_margin": 0.7, "reward_accuracy": 1.0,
    "ranking_accuracy": 1.0, "train_loss": 0.4032, "guard_loss": math.log(2),
}  # fmt: skip
#: What trainers on labels and on rankings say besides.
LABELS = {"desirable_displacement": -3.0, "undesirable_displacement": -10.0, "reward_margin": 0.7, "kl_estimate": 0.0}
RANKINGS = {"rank_accuracy": 0.8, "best_logp_change": 1.5, "rest_logp_change": -2.0}
#: The same of pairs of judgements.
JUDGEMENTS = {f"judgement_{name}": value for name, value in F.items() if not name.endswith("_loss")}


def measure(training: Mapping[str, float], n_trained: int = 0) -> dict[str, Evaluation]:
    data = replace(make_input(1, training=training), n_trained=n_trained)
    return {row.metric: row for row in Displacement(Displacement.Config()).evaluate(data)}


def test_figures_become_rows_of_the_training_split() -> None:
    rows = measure({**F, "steps": 12.0})
    assert {name: row.value for name, row in rows.items()} == {**F, "displacement_alarm": 0}
    assert {(row.split, row.round, row.low, row.high, row.detail) for row in rows.values()} == {
        ("train", 1, None, None, "{}")
    }


def test_judgements_have_figures_of_their_own_and_ring_no_alarm() -> None:
    rows = measure({**F, **JUDGEMENTS, "judgement_chosen_displacement": -2.0})
    assert {name: row.value for name, row in rows.items()} == {
        **F, **JUDGEMENTS, "judgement_chosen_displacement": -2.0, "displacement_alarm": 0
    }  # fmt: skip


def test_the_alarm_rings_for_labels_as_for_pairs() -> None:
    rows = measure(LABELS)
    assert {name: row.value for name, row in rows.items()} == {**LABELS, "displacement_alarm": 1}
    assert measure({**LABELS, "desirable_logp_change": 0.5})["displacement_alarm"].value == 0


@pytest.mark.parametrize(
    ("chosen", "rejected", "rings"),
    [(2.0, -5.0, 0), (-3.0, -10.0, 1), (-10.0, -3.0, 0), (0.0, -7.0, 0), (-3.0, -3.0, 0)],
)
def test_the_alarm_rings_where_both_fall_and_the_margin_grows(chosen: float, rejected: float, rings: float) -> None:
    """(2, -5) and (-3, -10) have the same loss; only the second lost the chosen answers."""
    margin = 0.1 * (chosen - rejected)
    rows = measure({"chosen_displacement": chosen, "rejected_displacement": rejected, "reward_margin": margin})
    assert rows["displacement_alarm"].value == rings


def test_an_earlier_rounds_loss_does_not_ring_again() -> None:
    """With M_1 as reference a round may start displaced and make up for it."""
    displaced = {"chosen_displacement": -3.0, "reward_margin": 0.7}
    assert measure({**displaced, "chosen_logp_change": 1.0})["displacement_alarm"].value == 0
    assert measure({**displaced, "chosen_logp_change": -1.0})["displacement_alarm"].value == 1


def test_absent_figures_give_no_rows() -> None:
    assert measure({}) == {}
    assert measure({"train_loss": 1.5}).keys() == {"train_loss"}
    assert measure({"chosen_displacement": -1.0}).keys() == {"chosen_displacement"}


def test_what_is_not_a_number_is_none() -> None:
    rows = measure({**F, "chosen_displacement": math.nan, "train_loss": math.inf})
    assert rows["chosen_displacement"].value is None
    assert rows["train_loss"].value is None
    assert rows["displacement_alarm"].value is None


def test_shares_have_the_interval_of_what_was_measured_not_of_what_was_trained_on() -> None:
    training = {**F, **JUDGEMENTS, "ranking_accuracy": 0.75, "measured": 40.0, "judgement_measured": 3.0}
    rows = measure(training, n_trained=1000)
    of = {name: row.n for name, row in rows.items()}
    assert {n for name, n in of.items() if name.startswith("judgement_")} == {3}
    assert of.pop("train_loss") == of.pop("guard_loss") == 1000
    assert {n for name, n in of.items() if not name.startswith("judgement_")} == {40}
    for name, share in (("ranking_accuracy", wilson(30, 40)), ("judgement_reward_accuracy", wilson(3, 3))):
        assert (rows[name].low, rows[name].high) == (share.low, share.high)
    assert rows["chosen_displacement"].low is None


def test_labels_of_either_kind_are_counted_apart() -> None:
    rows = measure({**LABELS, "measured": 40.0, "desirable_measured": 32.0, "undesirable_measured": 8.0}, n_trained=100)
    assert {name: row.n for name, row in rows.items()} == {
        "desirable_displacement": 32, "undesirable_displacement": 8, "reward_margin": 40, "kl_estimate": 40,
        "displacement_alarm": 40,
    }  # fmt: skip


def test_a_training_that_does_not_say_how_many_it_measured_has_no_interval() -> None:
    rows = measure({**F, "ranking_accuracy": 0.75}, n_trained=40)
    assert {(row.n, row.low, row.high) for row in rows.values()} == {(40, None, None)}
