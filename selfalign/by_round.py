"""Settings that change from round to round: a list where one value is expected.

Entry t of the list is of round t, and the last one holds for all later rounds. Nobody else has to know: where a model
refuses a list, each of its entries is validated in its place, by that same model. A setting that takes a list itself
(names of modules, shares) has it as its value, as before; by round it is a list of lists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer
from pydantic_core import InitErrorDetails, PydanticCustomError

#: Keys and positions from a section down to a setting, e.g. ("plus", 0, "weight").
Path = tuple[Any, ...]


class ByRound(BaseModel):
    """Settings of a section, of which some are lists by round. ``entries`` are whole: one a round, until they repeat."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[Any, ...]
    #: Where the lists are, and as they were written.
    lists: tuple[tuple[Path, tuple[Any, ...]], ...]

    @property
    def id(self) -> str:
        """The plug-in's name, which is the same in all rounds."""
        return str(self.entries[0].id)

    @model_serializer(mode="plain")
    def _as_written(self) -> dict[str, Any]:
        data: dict[str, Any] = self.entries[0].model_dump(mode="json")
        for path, values in self.lists:
            _put(data, path, list(values))
        return data


def at(settings: Any, round: int) -> Any:
    """``settings`` as they are in ``round``; round 0 is taken for round 1."""
    if not isinstance(settings, ByRound):
        return settings
    return settings.entries[min(max(round, 1), len(settings.entries)) - 1]


def settled(*settings: Any) -> int:
    """The first round from which on none of ``settings`` changes any more."""
    return max((len(one.entries) for one in settings if isinstance(one, ByRound)), default=1)


def by_round(validate: Callable[[Any], Any], data: Mapping[str, Any]) -> Any:
    """What ``validate`` makes of ``data``, or a ByRound of it where some settings are lists by round.

    Raises:
        ValidationError: the settings are wrong, without lists or in the round that the message names.
    """
    lists: dict[Path, list[Any]] = {}
    while True:
        entries = []
        try:
            for index in range(max(map(len, lists.values()), default=1)):
                entries.append(validate(_of_round(data, lists, index)))
        except ValidationError as error:
            refused, others = _refused_lists(error, _of_round(data, lists, len(entries)), lists)
            if others or not refused:
                raise _explained(error, others, lists, len(entries)) from None
            lists |= refused
            continue
        if not lists:
            return entries[0]
        return ByRound(entries=tuple(entries), lists=tuple((path, tuple(values)) for path, values in lists.items()))


def _of_round(data: Mapping[str, Any], lists: Mapping[Path, list[Any]], index: int) -> Any:
    """``data`` with the entry of round ``index`` + 1 in place of every list."""
    one = copy.deepcopy(dict(data))
    for path, values in lists.items():
        _put(one, path, values[min(index, len(values) - 1)])
    return one


def _refused_lists(
    error: ValidationError, data: Any, known: Mapping[Path, list[Any]]
) -> tuple[dict[Path, list[Any]], list[Any]]:
    """Lists in ``data`` that were refused where one value was expected, by their place; and all other problems.

    A list in the place of a ``known`` list's entry is a problem.
    """
    refused: dict[Path, list[Any]] = {}
    others = []
    for problem in error.errors():
        path, value = _of_lists(data, *_reached(data, problem["loc"]))
        unknown_key = problem["type"] == "extra_forbidden"
        if path and path not in known and isinstance(value, list) and value and not unknown_key:
            refused[path] = value
        else:
            others.append(problem)
    return refused, others


def _reached(data: Any, location: Sequence[Any]) -> tuple[Path, Any]:
    """How far ``location`` leads into ``data``, and what is there; its last parts may name a type and not a place."""
    path: list[Any] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            break
        path.append(part)
    return tuple(path), data


def _of_lists(data: Any, path: Path, value: Any) -> tuple[Path, Any]:
    """The list around a refused list, where it has nothing but lists: then that one is by round."""
    if path and isinstance(path[-1], int):
        _, around = _reached(data, path[:-1])
        if isinstance(around, list) and all(isinstance(member, list) for member in around):
            return path[:-1], around
    return path, value


def _put(data: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value


def _explained(
    error: ValidationError, problems: Sequence[Any], lists: Mapping[Path, list[Any]], index: int
) -> ValidationError:
    """``problems`` of ``error``, found in round ``index`` + 1: with their positions in the lists, and the round."""
    when = ""
    if lists:
        last = index + 1 == max(map(len, lists.values()))
        when = f" (round {index + 1}{' and later' if last else ''})"
    details = []
    for problem in problems:
        location = tuple(problem["loc"])
        for path, values in lists.items():
            if location[: len(path)] == path:
                location = (*path, min(index, len(values) - 1), *location[len(path) :])
        kind = PydanticCustomError(problem["type"], "{message}", {"message": problem["msg"] + when})
        details.append(InitErrorDetails(type=kind, loc=location, input=problem["input"]))
    return ValidationError.from_exception_data(error.title, details)
