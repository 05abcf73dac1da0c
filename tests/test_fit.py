"""Settings that do not fit together are one line, before anything is started."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from selfalign import registry
from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.fit import _FEEDS, reads
from selfalign.protocols import TrainingJob
from selfalign.registry import Plugin, plugins
from selfalign.training.sft import SFTConfig
from tests.pairing.test_invariants import REQUIRED

SPIN = {"pair": "spin", "generate": {"demonstrations": True, "candidates": 1}, "judge": None}
RLCD = {"pair": "rlcd", "generate": {"contrast": {}}, "judge": None}


STACK = {"id": "dpo", "method": "lora", "lora": {"chain": "stack"}}


class NeedsLabels:
    """Stands for the trainers of labels, of which this test needs no more than what they take."""

    needs = "labels"

    class Config(SFTConfig):
        id: Literal["takes_labels"] = "takes_labels"  # type: ignore[assignment]


def problem(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate_config({"name": "x", **settings}, "x.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        SPIN, RLCD, {"pair": "rlp_spg", "judge": None}, {"pair": "best_of", "train": "sft"},
        {"policy": {"start": ["base", "previous"]}, "train": STACK},
        {"keep": {"as": "adapter"}, "train": {"method": ["full", "lora"]}},
    ],
)  # fmt: skip
def test_what_fits_together(settings: dict[str, Any]) -> None:
    validate_config({"name": "x", **settings}, "x.yaml")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pair": "ranking"}, "train: dpo needs pairs, and pair: ranking makes rankings; builders of pairs: all_pairs, "),
        ({"pair": "threshold_labels"}, "train: dpo needs pairs, and pair: threshold_labels makes labels"),
        ({"judge": None}, "judge: null, but pair: max_min needs scores; name a judge"),
        ({**RLCD, "pair": {"id": "rlcd", "agree": "weakly"}}, "pair: rlcd needs scores"),
        ({**SPIN, "calibrate": {"enabled": "always"}}, "calibrate.enabled: always"),
        ({**SPIN, "teach": {"rounds": [1]}}, "teach.rounds teaches the judge"),
        ({"pair": "spin"}, "pair: spin needs generate.demonstrations: true"),
        ({"pair": "rlcd"}, "pair: rlcd needs generate.contrast"),
        ({"generate": {"contrast": {}, "candidates": 5}}, "generate.candidates must be even"),
        ({"generate": {"candidates": 1}}, "a pair has two sides"),
        ({"pair": {"id": "max_mim"}}, "did you mean 'max_min'?"),
        ({"pair": {"id": "length_band", "rho": [0.1, 0.7]}}, "pair.rho.1"),
        ({"policy": {"start": "base"}, "train": STACK}, "policy.start: base begins every round with M_0"),
        ({"policy": {"start": ["previous", "base"]}, "train": STACK}, "policy.start: base begins every round with M_0"),
        ({"policy": {"start": "base"}, "teach": {"rounds": [1], "train": {**STACK, "id": "sft"}}}, "lora.chain: stack"),
        ({"keep": {"as": "adapter"}, "train": {"method": ["full", "full"]}}, "keep.as: adapter needs train.method"),
        ({"judge": None, "pair": {"id": "rlcd", "agree": ["ignore", "weakly"]}, "generate": {"contrast": {}}},
         "judge: null, but pair: rlcd needs scores"),
    ],
)  # fmt: skip
def test_what_does_not(settings: dict[str, Any], expected: str) -> None:
    assert expected in problem(**settings)


def test_only_wanted_answers_are_nothing_for_a_loss_that_needs_both(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("train", "takes_labels", f"{__name__}:NeedsLabels", "for a test")
    monkeypatch.setitem(registry._plugins, ("train", "takes_labels"), plugin)
    validate_config({"name": "x", "pair": "threshold_labels", "train": "takes_labels"}, "x.yaml")
    assert "pair: best_of marks only wanted ones; use threshold_labels" in problem(pair="best_of", train="takes_labels")


def test_every_trainer_and_builder_is_known_to_the_check() -> None:
    fields = set(TrainingJob.__dataclass_fields__)
    assert set(_FEEDS) <= fields
    assert {getattr(plugin.load(), "needs", "pairs") for plugin in plugins("train")} <= set(_FEEDS)
    for plugin in plugins("pair"):
        builder = plugin.load()
        config = builder.Config.model_validate(REQUIRED.get(plugin.name, {}))
        assert builder.makes in {kind for kinds in _FEEDS.values() for kind in kinds}
        assert reads(config) <= {"scores", "demonstrations", "contrast"}
