"""What each round trains: from where, against what, on which rows, with which settings. For people, from the config."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from selfalign.by_round import ByRound
from selfalign.config import LastRounds, PolicySettings, Replay, RunConfig
from selfalign.training.settings import Average

#: Settings of a trainer that are always shown, where it has them.
_SHOWN = ("learning_rate", "beta")


def round_table(config: RunConfig) -> list[dict[str, Any]]:
    """One row a kind of round, in order of the first: ``rounds`` that are alike, and what they do.

    Beside what is always shown, there is a column for every setting of trainer and builder that is a list by round.
    """
    rounds = range(1, config.rounds + 1)
    listed = [(section, path) for section in ("train", "pair") for path in _listed(getattr(config, section))]
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    names: tuple[str, ...] = ()
    for round in rounds:
        row = _row(config, round, listed)
        names = tuple(row)
        alike[tuple(row.values())].append(round)
    return [{"rounds": members, **dict(zip(names, row, strict=True))} for row, members in alike.items()]


def _row(config: RunConfig, round: int, listed: list[tuple[str, tuple[Any, ...]]]) -> dict[str, Any]:
    policy, trainer, teaches = config.policy_in(round), config.trainer(round), config.teaches(round)
    row = {
        "starts_from": "M0" if policy.start == "base" else "previous",
        "reference": _reference(trainer),
        "data": "lessons" if teaches else data_in_words(policy),
        "trainer": trainer.id,
        **{name: getattr(trainer, name, None) for name in _SHOWN},
    }
    for section, path in listed:
        settings = None if teaches else trainer if section == "train" else config.builder(round)
        row[".".join(map(str, (section, *path)))] = None if settings is None else _value(settings, path)
    return row


def _listed(settings: Any) -> list[tuple[Any, ...]]:
    """Where ``settings`` has lists by round that no column of their own shows."""
    paths = [path for path, _ in settings.lists] if isinstance(settings, ByRound) else []
    return [path for path in paths if path not in [*((name,) for name in _SHOWN), ("reference",)]]


def _value(settings: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        settings = settings[part] if isinstance(part, int) else getattr(settings, part)
    return settings


def _reference(trainer: Any) -> str | None:
    reference = getattr(trainer, "reference", None)
    if isinstance(reference, Average):
        return f"average, decay {reference.ema:g}"
    return {"initial": "M0", None: None}.get(reference, "previous")


def data_in_words(policy: PolicySettings) -> str:
    """``this``, ``all``, ``last 2``, or ``this, 30 % of t-1, 15 % of t-2``."""
    if isinstance(policy.data, LastRounds):
        return f"last {policy.data.last}"
    if isinstance(policy.data, Replay):
        shares = enumerate(policy.data.replay, start=1)
        return ", ".join(["this", *(f"{100 * share:g} % of t-{back}" for back, share in shares if share)])
    return policy.data
