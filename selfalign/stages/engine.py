"""Which engine a stage loads: the one that the config names, or what ``auto`` means on this machine."""

from __future__ import annotations

from typing import Any

from selfalign.config import RunConfig
from selfalign.engines.choice import Choice
from selfalign.registry import find


def own_engine(settings: Any) -> Any:
    """The Config of the engine that runs the policy itself, where ``settings`` may be that of a server."""
    return getattr(settings, "own", settings)


def served(settings: Any) -> bool:
    """Whether training candidates are sampled by a server instead of the policy."""
    return own_engine(settings) is not settings


def concrete(settings: Any, config: RunConfig) -> tuple[Choice, Any]:
    """What ``settings`` (an engine's Config) comes to here, why, and the Config of the engine to load."""
    plugin = find("engine", settings.id).load()
    if not hasattr(plugin, "choose"):
        return Choice(settings.id, "the config names it"), settings
    choice, chosen = plugin.choose(settings, config.device)
    return choice, chosen


def check_engine(config: RunConfig) -> None:
    """Whether the engines of a run can work here.

    Raises:
        ConfigError: such as a library that is not installed, or the key of a server.
    """
    given, own = config.generate.engine, own_engine(config.generate.engine)
    for wanted in [given] if own is given else [given, own]:
        _, found = concrete(wanted, config)
        plugin = find("engine", found.id).load()
        if hasattr(plugin, "check"):
            plugin.check(found, config.device)


def window(config: RunConfig, model_window: int) -> int:
    """Tokens that the policy's engine has room for: the model's window, or less where its settings say so."""
    _, settings = concrete(own_engine(config.generate.engine), config)
    return min(model_window, getattr(settings, "max_model_len", None) or model_window)
