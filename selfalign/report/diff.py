"""Which words of two answers differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

#: Scripts without spaces are compared character by character; everything else by word, space and mark.
_TOKEN = re.compile(r"[぀-ヿ㐀-鿿豈-﫿가-힯]|\s+|\w+?(?=[぀-ヿ㐀-鿿豈-﫿가-힯])|\w+|[^\w\s]")
#: The comparison takes time with the square of the length; what is beyond is shown without marks.
_MOST_TOKENS = 1200


@dataclass(frozen=True)
class Run:
    """A stretch of text; ``only_here``: the other answer has it not."""

    text: str
    only_here: bool


def tokens(text: str) -> list[str]:
    """Words, spaces and marks, which together are the text."""
    return _TOKEN.findall(text)


def word_diff(left: str, right: str) -> tuple[list[Run], list[Run]]:
    """Both texts in stretches; those of either side together are that text, what is not ``only_here`` is common."""
    a, b = tokens(left), tokens(right)
    if len(a) > _MOST_TOKENS or len(b) > _MOST_TOKENS:
        return [Run(left, False)] if left else [], [Run(right, False)] if right else []
    ours: list[Run] = []
    theirs: list[Run] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        _add(ours, "".join(a[i1:i2]), tag != "equal")
        _add(theirs, "".join(b[j1:j2]), tag != "equal")
    return _joined(ours), _joined(theirs)


def _joined(runs: list[Run]) -> list[Run]:
    """A space between two marked words is marked with them."""
    found: list[Run] = []
    for i, run in enumerate(runs):
        between = 0 < i < len(runs) - 1 and run.text.isspace() and "\n" not in run.text
        _add(found, run.text, run.only_here or between)
    return found


def _add(runs: list[Run], text: str, only_here: bool) -> None:
    if not text:
        return
    if runs and runs[-1].only_here == only_here:
        runs[-1] = Run(runs[-1].text + text, only_here)
    else:
        runs.append(Run(text, only_here))
