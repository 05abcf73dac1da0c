from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from selfalign import registry
from selfalign.config import Settings, load_config, validate_config
from selfalign.errors import ConfigError
from selfalign.registry import Plugin

MINIMAL = "name: demo\nmodel: ./model\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_complete_and_round_trip(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.judge.id == "rubric_votes"
    assert config.train.beta == 0.1
    assert config.workspace_path() == Path("runs/demo")
    again = load_config(write(tmp_path, __import__("yaml").safe_dump(config.snapshot())))
    assert again.config_hash() == config.config_hash()


def test_the_name_defaults_to_the_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "model: x\n")).name == "run"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("genrate: {candidates: 2}", "genrate: unknown key; did you mean 'generate'?"),
        ("generate: {temprature: 0.2}", "generate.temprature: unknown key; did you mean 'temperature'?"),
        ("train: {id: dpo, betta: 1}", "train.betta: unknown key; did you mean 'beta'?"),
        ("judge: {id: rubrik_votes}", "did you mean 'rubric_votes'?"),
        ("pair: {min_margn: 0.2}", "pair.min_margn: unknown key; did you mean 'min_margin'?"),
        ("train: {learning_rat: 1}", "train.learning_rat: unknown key; did you mean 'learning_rate'?"),
        ("teach: {train: {epoch: 1}}", "teach.train.epoch: unknown key; did you mean 'epochs'?"),
        ("evaluate: {win_rate: {promts: 1}}", "evaluate.win_rate.promts: unknown key; did you mean 'prompts'?"),
        ("evaluate: {drift: {judge: {rubrik: x}}}", "evaluate.drift.judge.rubrik: unknown key; did you mean 'rubric'?"),
        ("pair: {strength: {flip_botom: 0.1}}", "pair.strength.flip_botom: unknown key; did you mean 'flip_bottom'?"),
        ("judge: {rounds: 2}", "judge.rounds: unknown key"),
        ("train: {id: simpo, reference: initial}", "train.reference: unknown key"),
        ("train: {id: dpo, loss: simop}", "train: unknown loss 'simop'; known: dpo"),
        ("train: {id: cdpo, label_smoothing: pair}", "needs pair.strength, which records it"),
        ("rounds: -1", "rounds: input should be greater than or equal to 1 (got -1)"),
        ("generate: {candidates: 0}", "generate.candidates"),
        ("generate: {max_tokens: -5}", "generate.max_tokens"),
        ("generate: {candidates: 1}", "a pair has two sides"),
        ("train: {id: sft, reference: initial}", "train.reference: unknown key; this trainer compares with none"),
        ("train: {id: dpo, reference: ema}", "train.reference: must be previous, initial or {ema: DECAY}"),
        ("train: {id: kto, reference: {ema: 1}}", "train.reference.ema: input should be less than 1 (got 1)"),
        ("policy: {start: middle}", "policy.start: input should be 'previous' or 'base' (got 'middle')"),
        ("policy: {strat: base}", "policy.strat: unknown key; did you mean 'start'?"),
        ("policy: {reference: initial}", "policy.reference: unknown key; it belongs to the loss: train.reference"),
        ("policy: {data: two}", "policy.data: must be this, all, {last: ROUNDS} or {replay: [SHARE, ...]} (got 'two')"),
        ("policy: {data: {last: 0}}", "policy.data.last: input should be greater than or equal to 1"),
        (
            "policy: {data: [this, {replay: [0.3, 2]}]}",
            "policy.data.1.replay.1: input should be less than or equal to 1",
        ),
        ("policy: base", "policy: input should be a valid dictionary"),
        ("train: kto", "train: kto needs labels, and pair: max_min makes pairs"),
        ("train: {id: kto, micro_batch_size: 1}", "micro_batch_size and batch_size must be at least 2"),
        ("train: pro", "train: pro needs rankings"),
        ("rounds: many", "rounds"),
        ("name: ../evil", "name"),
        ("judge: 3", "names the judge to use"),
        ("- a\n- b", "must be a mapping"),
        ("a: [1", "not valid YAML"),
    ],
)
def test_a_wrong_config_is_one_line_that_helps(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


class OnlyGood:
    """A pair builder as far as a config looks at one."""

    makes = "labels"
    only_desirable = True

    class Config(Settings):
        id: Literal["only_good"] = "only_good"


def test_trainers_take_what_the_builder_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("pair", "only_good", f"{__name__}:OnlyGood", "")
    monkeypatch.setitem(registry._plugins, ("pair", "only_good"), plugin)
    one = MINIMAL + "pair: only_good\ngenerate: {candidates: 1}\n"
    assert load_config(write(tmp_path, one + "train: sft")).train.id == "sft"
    with pytest.raises(
        ConfigError,
        match="train: kto needs answers that are wanted and answers that are not, and pair: only_good marks only wanted ones",
    ):
        load_config(write(tmp_path, one + "train: kto"))
    with pytest.raises(ConfigError, match=r"train: dpo needs pairs, and pair: only_good makes labels; .*max_min"):
        load_config(write(tmp_path, one + "train: dpo"))
    with pytest.raises(ConfigError, match=r"builders of labels: .*only_good"):
        load_config(write(tmp_path, MINIMAL + "train: kto"))


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="selfalign init"):
        load_config(tmp_path / "none.yaml")


def test_overrides_reach_into_sections_lists_and_bare_plugin_names(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: dpo\njudge: {id: weighted, members: [{id: verifier, weight: 1}]}\n")
    config = load_config(
        path, ["train.beta=0.3", "rounds=5", "judge.members.0.weight=2.5", "generate.engine.max_rows=7"]
    )
    assert (config.train.beta, config.rounds, config.generate.engine.max_rows) == (0.3, 5, 7)
    assert "2.5" in str(config.judge.model_dump())


@pytest.mark.parametrize("override", ["train.beta", "=3", "train.beta=[", "judge.members.9.weight=1"])
def test_a_wrong_override_is_refused(tmp_path: Path, override: str) -> None:
    path = write(tmp_path, MINIMAL + "train: dpo\njudge: {id: weighted, members: [{id: verifier, weight: 1}]}\n")
    with pytest.raises(ConfigError, match="--set"):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("this", [{}, {}, {}, {}]),
        ("all", [{}, {1: 1.0}, {2: 1.0, 1: 1.0}, {3: 1.0, 2: 1.0, 1: 1.0}]),
        ({"last": 2}, [{}, {1: 1.0}, {2: 1.0}, {3: 1.0}]),
        ({"replay": [0.3, 0.15]}, [{}, {1: 0.3}, {2: 0.3, 1: 0.15}, {3: 0.3, 2: 0.15}]),
        ({"replay": [0, 0.15]}, [{}, {}, {1: 0.15}, {2: 0.15}]),
        (["all", {"last": 1}, {"last": 3}], [{}, {}, {2: 1.0, 1: 1.0}, {3: 1.0, 2: 1.0}]),
    ],
)
def test_earlier_rounds_by_policy(data: object, expected: list[dict[int, float]]) -> None:
    config = validate_config({"name": "x", "policy": {"data": data}}, "t")
    assert [config.policy_in(round).earlier(round) for round in (1, 2, 3, 4)] == expected


def test_where_rounds_start() -> None:
    assert [validate_config({"name": "x"}, "t").start_round(round) for round in (1, 2, 3)] == [0, 1, 2]
    config = validate_config({"name": "x", "policy": {"start": ["previous", "previous", "base"]}}, "t")
    assert [config.start_round(round) for round in (1, 2, 3, 4)] == [0, 1, 0, 0]
    assert validate_config({"name": "x"}, "t").snapshot()["policy"] is None, "rounds of older versions are still known"
