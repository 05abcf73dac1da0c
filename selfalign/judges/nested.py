"""Judges inside another judge's config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfalign.config import Settings
from selfalign.errors import ConfigError
from selfalign.registry import find


def judge_config(value: Any) -> Any:
    """The validated Config of the judge that ``value`` (a name, or a mapping with ``id``) describes.

    Raises:
        ValueError: it names no judge, or its settings are wrong (pydantic's ValidationError is one).
    """
    if isinstance(value, Settings):
        return value
    if isinstance(value, str):
        value = {"id": value}
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise ValueError("needs an 'id' that names the judge")
    try:
        plugin = find("judge", value["id"])
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return plugin.load().Config.model_validate(value)


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
