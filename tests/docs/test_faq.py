"""docs/faq.md explains messages that the program has: the words to look for are in its source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
SOURCE = " ".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
    for folder in ("selfalign", "flows")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize(
    "words", [words for bold in re.findall(r"\*\*(.+?)\*\*", PAGE) for words in re.findall("`(.+?)`", bold)]
)
def test_the_words_of_a_message_are_the_programs(words: str) -> None:
    assert words in SOURCE


def test_pages_that_it_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
