"""docs/vllm.md names every engine, and its examples are configs with the defaults that it says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfalign.config import validate_config
from selfalign.engines.vllm_engine import VllmEngine
from selfalign.registry import plugins

PAGE = (Path(__file__).parent.parent.parent / "docs" / "vllm.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(block)["generate"] for block in re.findall(r"^    generate:\n(?:      .*\n)+", PAGE, re.M)]


def test_every_engine_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.M)) == {plugin.name for plugin in plugins("engine")}


def test_the_examples_are_configs() -> None:
    vllm, server = (validate_config({"name": "x", "generate": example}, "test").generate.engine for example in EXAMPLES)
    assert vllm == VllmEngine.Config()
    assert EXAMPLES[0]["engine"].keys() == VllmEngine.Config.model_fields.keys()
    assert (server.id, server.weights_hash, server.own.id) == ("openai", "served:big-model", "transformers")
