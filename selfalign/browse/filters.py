"""A query string as typed filters, and back. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from selfalign.errors import BadInput
from selfalign.types import Outcome

Sort = Literal["made", "margin_high", "margin_low"]
ReviewKind = Literal["any", "none", "accept", "flip", "reject"]
Split = Literal["train", "held_out"]
_MOST_TEXT = 500


@dataclass(frozen=True)
class Filters:
    """What to show; None: all. Lengths are tokens: of the chosen answer for pairs. ``after`` is where a page begins."""

    round: int | None = None
    branch: str | None = None
    split: Split | None = None
    judge: str | None = None
    outcome: Outcome | None = None
    language: str | None = None
    category: str | None = None
    min_margin: float | None = None
    max_margin: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    review: ReviewKind | None = None
    q: str | None = None
    sort: Sort = "made"
    after: str | None = None

    def query(self, **changes: Any) -> str:
        """The query string of these filters with ``changes``, ``?`` included; empty where nothing is asked for."""
        asked = replace(self, **changes)
        given = {
            field.name: value
            for field in fields(asked)
            if (value := getattr(asked, field.name)) is not None and value != field.default
        }
        return f"?{urlencode(given)}" if given else ""

    @property
    def narrowed(self) -> bool:
        """Whether anything but the order is asked for."""
        return any(
            getattr(self, field.name) is not None for field in fields(self) if field.name not in ("sort", "after")
        )


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "split": get_args(Split), "outcome": get_args(Outcome), "review": get_args(ReviewKind), "sort": get_args(Sort),
}  # fmt: skip
_WHOLE, _NUMBERS = ("round", "min_length", "max_length"), ("min_margin", "max_margin")


def parse(given: Mapping[str, str]) -> Filters:
    """Filters from the fields of a form; what is empty or unknown is no filter.

    Raises:
        BadInput: a value is not what its field takes.
    """
    names = {field.name for field in fields(Filters)}
    values = {name: text.strip() for name, text in given.items() if name in names and text.strip()}
    return Filters(**{name: _value(name, text) for name, text in values.items()})


def _value(name: str, text: str) -> Any:
    if len(text) > _MOST_TEXT:
        raise BadInput(f"{name}: is longer than {_MOST_TEXT} characters")
    if name in _CHOICES:
        if text not in _CHOICES[name]:
            raise BadInput(f"{name}: {text!r} is not one of {', '.join(_CHOICES[name])}")
        return text
    try:
        if name in _WHOLE:
            number = int(text)
            if not 0 <= number < 1 << 31:
                raise ValueError
            return number
        if name in _NUMBERS:
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except ValueError:
        raise BadInput(f"{name}: {text!r} is not a number that it can be") from None
    return text


def words(q: str) -> list[str]:
    """The parts that a text must all contain: words, and phrases in double quotes."""
    found = []
    for index, part in enumerate(q.split('"')):
        found += [part.strip()] if index % 2 else part.split()
    return [part for part in found if part]
