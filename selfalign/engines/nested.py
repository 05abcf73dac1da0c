"""An engine inside another engine's config."""

from __future__ import annotations

from typing import Any

from selfalign.config import Settings
from selfalign.errors import ConfigError
from selfalign.registry import find


def engine_config(value: Any) -> Any:
    """The validated Config of the engine that ``value`` (a name, or a mapping with ``id``) describes.

    Raises:
        ValueError: it names no engine, or its settings are wrong (pydantic's ValidationError is one).
    """
    if isinstance(value, Settings):
        return value
    if isinstance(value, str):
        value = {"id": value}
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise ValueError("needs an 'id' that names the engine")
    try:
        plugin = find("engine", value["id"])
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return plugin.load().Config.model_validate(value)
