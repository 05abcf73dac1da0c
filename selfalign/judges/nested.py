"""Judges inside another judge's config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfalign.config import Settings


def judges_in(settings: Settings) -> Iterator[Settings]:
    """``settings``, a judge's Config, and then the Configs of all judges that it is made of, at any depth."""
    yield settings
    for inner in parts(settings):
        yield from judges_in(inner)


def parts(settings: Settings) -> list[Settings]:
    """Configs of the judges that a judge's Config names directly; none for a judge that looks for itself."""
    return [found for name in type(settings).model_fields for found in _judges(getattr(settings, name))]


def _judges(value: Any) -> Iterator[Settings]:
    if isinstance(value, list | tuple):
        for member in value:
            yield from _judges(member)
    elif isinstance(value, Settings):
        if isinstance(getattr(value, "id", None), str):
            yield value
        else:  # a judge with its weight
            yield from parts(value)
