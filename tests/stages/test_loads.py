"""Modules that are loaded before a stage is forked; that nothing is left over is e2e/test_two_rounds.py's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from selfalign import registry
from selfalign.config import validate_config
from selfalign.registry import Plugin, plugins
from selfalign.stages.loads import of_job, of_run


@pytest.mark.parametrize("kind", ["engine", "judge", "train"])
def test_every_module_that_is_named_exists(kind: str) -> None:
    for plugin in plugins(kind):
        named = of_job({"kind": "generate", kind: {"id": plugin.name}})
        assert plugin.target.partition(":")[0] in named
        assert [name for name in named if importlib.util.find_spec(name) is None] == []


def test_judges_inside_a_judge_are_found() -> None:
    members = [{"id": "length", "judge": {"id": "verifier"}}, {"id": "rubric_logits", "rubric": {"id": "no judge"}}]
    named = of_job({"kind": "judge", "judge": {"id": "weighted", "members": members}})
    for name in ("selfalign.judges.weighted", "selfalign.judges.length", "selfalign.judges.rubric_logits"):
        assert name in named
    assert "if_verifiable.ifeval" in named, "what the verifier's functions import"


@pytest.mark.parametrize(
    ("config", "architecture"),
    [({"model_type": "qwen2"}, "qwen2"), ({"model_type": "gpt-neo"}, "gpt_neo"), ({"model_type": "../x y"}, None),
     ({}, "llama")],
)  # fmt: skip
def test_the_models_own_architecture_is_loaded(
    tmp_path: Path, config: dict[str, Any], architecture: str | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = [name for name in of_job({"kind": "train", "parent": str(tmp_path)}) if name.startswith("transformers")]
    wanted = f"transformers.models.{architecture}.modeling_{architecture}"
    assert found[:1] == ([wanted] if architecture else [])


def test_a_plug_in_of_another_package_is_left_to_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugins", {**registry._plugins})
    registry.register(Plugin("judge", "theirs", "somebodys.judges:Judge", "from elsewhere"))
    assert of_job({"kind": "judge", "judge": {"id": "theirs"}}) == ["selfalign.stages.judge"]


def test_a_run_loads_what_its_stages_are_said_to_load() -> None:
    data = {"name": "x", "judge": {"id": "verifier"}, "pair": {"id": "best_of"}, "train": {"id": "sft"}}
    config = validate_config(data, "test")
    named = of_run(config)
    assert named[0] == "selfalign.stages.generate", "the first stage's come first"
    assert {"if_verifiable.ifeval", "selfalign.training.sft_run", "selfalign.stages.log_ratio"} <= {*named}
    assert "selfalign.training.pairwise_run" not in named, "of a trainer that the run has not"
    assert "selfalign.stages.log_ratio" not in of_run(config.model_copy(update={
        "evaluate": config.evaluate.model_copy(update={"log_ratio": False})
    }))  # fmt: skip
