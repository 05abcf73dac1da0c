"""Lists by round: each entry validated by the model of the setting, which knows nothing of lists."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.by_round import ByRound, at, by_round, settled
from selfalign.config import RunConfig, validate_config
from selfalign.errors import ConfigError
from selfalign.training.pairwise import DPOTrainer


def config(**settings: Any) -> RunConfig:
    return validate_config({"name": "x", **settings}, "x.yaml")


def problem(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**settings)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("x.yaml: ")


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(1, 9))
def test_entry_t_is_of_round_t_and_the_last_one_of_all_later_ones(betas: list[float], round: int) -> None:
    found = by_round(DPOTrainer.Config.model_validate, {"id": "dpo", "beta": betas})
    assert at(found, round).beta == betas[min(round, len(betas)) - 1]
    assert at(found, round) == DPOTrainer.Config(beta=at(found, round).beta), "plain settings, as without lists"
    assert settled(found) == len(betas)


def test_settings_without_lists_are_what_they_were() -> None:
    plain = by_round(DPOTrainer.Config.model_validate, {"beta": 0.2})
    assert plain == DPOTrainer.Config(beta=0.2)
    assert at(plain, 7) is plain
    assert settled(plain, None) == 1


def test_lists_of_several_lengths_and_depths() -> None:
    here = config(
        train={
            "id": "dpo", "method": "lora", "beta": [0.1, 0.2, 0.3], "learning_rate": [1e-5, 1e-6], "lora": {"r": [4, 8]},
            "plus": [{"id": "sft", "weight": [1.0, 0.5]}, "orpo"], "margin_scale": [0, 1],
        },
        pair={"id": "max_min", "min_margin": [0.5, 0.25]},
    )  # fmt: skip
    seen = [
        (t.beta, t.learning_rate, t.lora.r, t.plus[0].weight, t.margin_scale) for t in map(here.trainer, (1, 2, 3, 4))
    ]
    assert seen == [(0.1, 1e-5, 4, 1.0, 0), (0.2, 1e-6, 8, 0.5, 1), (0.3, 1e-6, 8, 0.5, 1), (0.3, 1e-6, 8, 0.5, 1)]
    assert [here.builder(round).min_margin for round in (1, 2, 3)] == [0.5, 0.25, 0.25]
    assert list(here.different_rounds()) == [1, 2, 3]
    assert here.train.id == "dpo"


def test_a_setting_that_takes_a_list_has_it_as_its_value() -> None:
    band = config(pair={"id": "length_band", "rho": [0.1, 0.3]})
    assert not isinstance(band.pair, ByRound)
    assert band.builder(1).rho == [0.1, 0.3]
    named = config(train={"method": "lora", "lora": {"targets": ["q_proj", "v_proj"]}})
    assert named.trainer(2).lora.targets == ["q_proj", "v_proj"]


def test_a_setting_that_takes_a_list_is_a_list_of_lists_by_round() -> None:
    here = config(train={"plus": [["sft", {"id": "orpo", "weight": 0.5}], []], "method": "lora",
                         "lora": {"targets": [["q_proj"], ["q_proj", "v_proj"], "all-linear"]}})  # fmt: skip
    assert [[term.id for term in here.trainer(round).plus] for round in (1, 2, 3)] == [["sft", "orpo"], [], []]
    assert [here.trainer(round).lora.targets for round in (1, 2, 3)] == [["q_proj"], ["q_proj", "v_proj"], "all-linear"]
    assert validate_config(here.snapshot(), "again").trainer(1) == here.trainer(1)


def test_a_config_with_lists_is_written_with_them_and_read_again() -> None:
    here = config(
        train={"beta": [0.1, 0.2], "margin_scale": [0, 2], "loss": "cdpo"}, policy={"start": ["previous", "base"]}
    )
    snapshot = here.snapshot()
    assert (snapshot["train"]["beta"], snapshot["train"]["margin_scale"]) == ([0.1, 0.2], [0, 2])
    assert snapshot["policy"] == {"start": ["previous", "base"], "data": "this"}
    again = validate_config(snapshot, "again")
    assert again.config_hash() == here.config_hash()
    assert again.trainer(2) == here.trainer(2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": {"beta": [0.1, -1, 0.3]}}, "train.beta.1: input should be greater than 0 (round 2) (got -1)"),
        ({"train": {"beta": [0.1, 0]}}, "train.beta.1: input should be greater than 0 (round 2 and later) (got 0)"),
        ({"train": {"beta": [[0.1, 0.2], 0.3]}}, "train.beta.0: input should be a valid number (round 1)"),
        ({"train": {"beta": []}}, "train.beta: input should be a valid number"),
        ({"train": {"betta": [0.1, 0.2], "id": "dpo"}}, "train.betta: unknown key; did you mean 'beta'?"),
        # A list is not what is wrong here.
        ({"train": {"beta": [0.1, 0.2], "lrate": 1, "id": "dpo"}}, "train.lrate: unknown key"),
        (
            {"train": {"batch_size": [4, 8], "micro_batch_size": [4, 3]}},
            "train: micro_batch_size 3 must divide batch_size 8 (round 2 and later)",
        ),
        ({"train": {"lora": {"r": [8, 0]}}}, "train.lora.r.1: input should be greater than or equal to 1"),
        ({"train": {"plus": [{"id": "sft", "weight": [1, 0]}]}}, "train.plus.0.weight.1: input should be greater than 0"),
        ({"train": {"loss": ["dpo", "ipo"]}}, "train: unknown loss"),
        ({"train": {"id": ["dpo", "ipo"]}}, "train: needs an 'id'"),
        ({"pair": {"min_margin": [0, -1]}}, "pair.min_margin.1"),
        # What must fit together must do so in every round.
        ({"train": {"loss": "cdpo", "label_smoothing": [0.1, "pair"]}}, "needs pair.strength"),
        ({"judge": "verifier", "generate": {"candidates": [2, 4]}}, "generate.candidates: input should be a valid integer"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_round(settings: dict[str, Any], expected: str) -> None:
    assert expected in problem(**settings)
