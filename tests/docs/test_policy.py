"""docs/policy.md: its configs are ones, the printed plan is that of the first, and its tables have every choice.

Its queries are run by tests/e2e/test_policy.py, on a run with a policy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from selfalign.config import PolicySettings, RunConfig, validate_config
from selfalign.errors import ConfigError
from selfalign.plan import spoken
from selfalign.policies import round_table

PAGE = (Path(__file__).parent.parent.parent / "docs" / "policy.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def config(block: str) -> RunConfig:
    return validate_config({"name": "page", "rounds": 5, **yaml.safe_load(block)}, "docs/policy.md")


def test_the_examples_are_configs() -> None:
    first, lists = map(config, CONFIGS)
    assert first.policy_in(3) == PolicySettings(), "what it names first are the defaults"
    assert [lists.trainer(round).plus[0].weight for round in (1, 2, 3, 4)] == [1.0, 0.5, 0.2, 0.2]
    assert lists.builder(2).length_penalty == 0.01


def test_the_plan_is_that_of_the_example() -> None:
    (printed,) = re.findall(r"```\n(rounds .*?)```", PAGE, re.DOTALL)
    rows = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines()]
    table = round_table(config(CONFIGS[0]))
    assert rows[0] == [name.replace("_", " ") for name in table[0]]
    assert rows[1:] == [[spoken(row.pop("rounds")), *map(str, row.values())] for row in table]


def test_the_tables_have_every_choice() -> None:
    named = set(re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE))
    starts = get_args(PolicySettings.model_fields["start"].annotation)
    assert {*starts, "this", "all", "{last: k}", "{replay: [0.3, 0.15]}", "initial", "{ema: d}"} <= named


def test_the_error_is_the_programs() -> None:
    (said,) = re.findall(r"\(`(train\.beta\.1: .*?)`\)", PAGE)
    with pytest.raises(ConfigError, match=re.escape(said)):
        validate_config({"name": "x", "train": {"beta": [0.1, -1]}}, "f")
