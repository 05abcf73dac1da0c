"""docs/resampling.md: its config is one, and its tables have every resampler and its settings with their defaults.

Its queries are run by tests/e2e/test_resampling.py, on a run that resamples.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from selfalign.config import validate_config
from selfalign.registry import find, plugins

PAGE = (Path(__file__).parent.parent.parent / "docs" / "resampling.md").read_text(encoding="utf-8")
ROWS = {row[1]: row for row in re.finditer(r"^\| `(\w+)` \|(.*)\|(.*)\|$", PAGE, re.M)}


def test_the_example_is_a_config_with_the_defaults() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = validate_config({"name": "page", **yaml.safe_load(block)}, "docs/resampling.md")
    for settings in (config.resample, config.pair):
        assert settings == type(settings)()


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("resample", plugin.name) for plugin in plugins("resample")), ("pair", "first_round"), ("pair", "tournament")],
)
def test_the_tables_have_every_setting_with_its_default(kind: str, name: str) -> None:
    defaults = find(kind, name).load().Config().model_dump(exclude={"id"})
    assert dict(re.findall(r"`(\w+)` \(([\w.]+)\)", ROWS[name][3])) == {
        key: str(value) for key, value in defaults.items()
    }
