"""docs/pairing.md: its configs are valid, and its table is the registry's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from selfalign.config import validate_config
from selfalign.registry import plugins

PAGE = (Path(__file__).parent.parent.parent / "docs" / "pairing.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", CONFIGS)
def test_every_example_is_a_config(block: str) -> None:
    validate_config({"name": "page", **yaml.safe_load(block)}, "docs/pairing.md")


def test_the_table_lists_what_builders_make() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (pairs|labels|rankings) \|", PAGE, re.MULTILINE))
    assert len(CONFIGS) == 4
    known = {plugin.name: plugin.load().makes for plugin in plugins("pair")}
    assert rows.items() <= known.items()
    assert set(known) - set(rows) <= {"first_round", "tournament"}, "documented with resampling"
