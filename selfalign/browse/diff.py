"""Two texts, word by word. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Words with what follows them, single characters of scripts that write without spaces, and runs of white space.
_WORD = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
#: Words of one text times those of the other: beyond it the comparison takes longer than a page may.
_MOST = 1_000_000


@dataclass(frozen=True)
class Span:
    """A piece of a text; ``own`` where the other text has not got it."""

    text: str
    own: bool


def word_diff(one: str, other: str) -> tuple[list[Span], list[Span]] | None:
    """Both texts in pieces; joined, they are the texts again. None where they are too long to compare."""
    first, second = _WORD.findall(one), _WORD.findall(other)
    if len(first) * len(second) > _MOST:
        return None
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    left: list[Span] = []
    right: list[Span] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        left += _span(first[a:b], kind != "equal")
        right += _span(second[c:d], kind != "equal")
    return list(_joined(left)), list(_joined(right))


def _span(words: Sequence[str], own: bool) -> list[Span]:
    return [Span("".join(words), own)] if words else []


def _joined(spans: Iterable[Span]) -> Iterable[Span]:
    """Neighbours of one kind as one piece; two changed words are one change also across the space between them."""
    found: list[Span] = []
    for span in spans:
        if found and (found[-1].own == span.own):
            found[-1] = Span(found[-1].text + span.text, span.own)
        elif span.own and len(found) > 1 and not found[-1].own and found[-1].text == " " and found[-2].own:
            space = found.pop()
            found[-1] = Span(found[-1].text + space.text + span.text, True)
        else:
            found.append(span)
    return found
