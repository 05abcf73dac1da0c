"""docs/config.md is what the models say, and every setting says what it is."""

from __future__ import annotations

from pathlib import Path

from selfalign.config_reference import page
from selfalign.registry import plugins

PAGE = Path(__file__).parent.parent.parent / "docs" / "config.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m selfalign.config_reference > docs/config.md"


def test_every_plugin_and_the_parts_that_are_easily_lost_are_on_it() -> None:
    text = page()
    for plugin in plugins():
        assert f"\n### `{plugin.name}`\n" in text
    # Sections behind a validator, one of several alternatives, an alias, a default that a subclass changes.
    for row in ("| `data.replay` | required |", "| `as` | `full` |", "| `strength.flip_below` | `null` |"):
        assert row in text
    apo = text.split("### `apo_down`")[1].split("###")[0]
    assert "| `learning_rate` | `2e-07` |" in apo and "`batch_size`" not in apo
