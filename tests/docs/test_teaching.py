"""docs/teaching.md: its config is one, with the defaults it names."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfalign.config import RunConfig, TeachSettings, validate_config

PAGE = (Path(__file__).parent.parent.parent / "docs" / "teaching.md").read_text(encoding="utf-8")


def examples() -> list[RunConfig]:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return [validate_config({"name": "page", **yaml.safe_load(block)}, "docs/teaching.md") for block in blocks]


def test_the_example_is_a_config_with_the_defaults() -> None:
    config, measured = examples()
    assert config.teaches(1) and not config.teaches(2)
    assert config.teach.model_dump(exclude={"rounds", "train"}) == TeachSettings().model_dump(
        exclude={"rounds", "train"}
    )
    assert config.trainer(1).id == "sft" and config.trainer(2).id == "dpo"
    assert config.teach.train == TeachSettings().train
    assert measured.teach.train == TeachSettings().train.model_copy(update={"epochs": 2, "precision": "bfloat16"})
