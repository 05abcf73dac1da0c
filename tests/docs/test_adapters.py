"""docs/adapters.md names every method, and its example is a config with the defaults that it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml

from selfalign.config import validate_config
from selfalign.training.settings import LoraSettings, QuantiseSettings, TrainingSettings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_every_method_is_in_the_table_or_said_to_be_refused() -> None:
    usable = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    refused = re.search(r"\(`method: (\w+)`, `(\w+)`\)", PAGE)
    assert refused is not None
    assert {*usable, *refused.groups()} == set(get_args(TrainingSettings.model_fields["method"].annotation))


def test_the_example_is_a_config_of_all_defaults() -> None:
    block = re.search(r"^    train:\n(?:      .*\n)+", PAGE, re.M)
    assert block is not None
    given = yaml.safe_load(block[0])["train"]
    train = validate_config({"name": "x", "train": given}, "test").train
    assert (train.lora, train.qlora) == (LoraSettings(), QuantiseSettings())
    assert given["lora"].keys() == LoraSettings.model_fields.keys()
