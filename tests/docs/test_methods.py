"""docs/methods.md names every trainer, builder and resampler, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from selfalign.registry import plugins

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_every_method_has_its_place() -> None:
    named = set(re.findall(r"`(?:train: |pair: |resample: )?([a-z0-9_]+)`", PAGE.read_text(encoding="utf-8")))
    for kind in ("train", "pair", "resample"):
        assert {plugin.name for plugin in plugins(kind)} <= named, kind


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []
