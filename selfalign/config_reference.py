"""docs/config.md, written from the config models: ``python -m selfalign.config_reference > docs/config.md``.

A test holds the page against the models, so that a setting cannot be added, renamed or given another default without it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from selfalign.config import PluginField, RunConfig, SectionField, Settings
from selfalign.registry import KINDS, Plugin, plugins
from selfalign.training.settings import TrainingSettings

_INTRODUCTION = """\
# Every setting

Written by `python -m selfalign.config_reference` from the models that validate a config. A run's complete config,
defaults included, is `runs/NAME/config.yaml`; `selfalign plan run.yaml` validates one and starts nothing. Any setting can
be given on the command line: `--set train.learning_rate=1e-5`.

A key with a dot is nested: `win_rate.by` is `by:` inside `win_rate:`. Sections that take a plug-in name it with `id:`, or
as a whole (`judge: verifier`); its other keys are that plug-in's, listed below by kind. Settings of `pair`, `train`,
`teach.train` and `policy` may be lists by round ([policy.md](policy.md)).
"""
#: Kind of plug-in -> heading and the section of the config that takes it.
_KINDS = {
    "engine": ("Engines", "generate.engine"),
    "prompts": ("Prompt sources", "prompts.sources, prompts.held_out"),
    "judge": ("Judges", "judge"),
    "resample": ("Resamplers", "resample"),
    "pair": ("Pair builders", "pair"),
    "train": ("Trainers", "train"),
    "evaluate": ("Figures of a round", "evaluate.metrics"),
    "gate": ("Gates", "gates"),
}
_LIMITS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def page() -> str:
    """The whole page as Markdown."""
    assert set(_KINDS) == set(KINDS)
    parts = [_INTRODUCTION, "## A run\n", _table(_top(RunConfig))]
    for name, model in _sections(RunConfig):
        parts += [f"\n## `{name}`\n", f"{_summary(model)}\n", _table(_rows(model))]
    for kind, (heading, where) in _KINDS.items():
        parts += [f"\n## {heading}\n", f"What `{where}` takes.\n"]
        if kind == "train":
            parts += ["Every trainer has these settings:\n", _table(_rows(TrainingSettings)), ""]
        parts += map(_plugin, plugins(kind))
    return "\n".join(parts).rstrip() + "\n"


def _plugin(plugin: Plugin) -> str:
    model: type[Settings] = plugin.load().Config
    common = {row[0]: row for row in _rows(TrainingSettings)} if plugin.kind == "train" else {}
    own = [row for row in _rows(model) if row != common.get(row[0])]
    source = f" ({plugin.source})" if plugin.source else ""
    head = f"### `{plugin.name}`\n\n{plugin.summary}{source}\n"
    return f"{head}\n{_table(own)}\n" if own else f"{head}\nIt has no settings{' of its own' if common else ''}.\n"


Row = tuple[str, str, str, str]


def _table(rows: typing.Iterable[Row]) -> str:
    lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _sections(model: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    for name, field in model.model_fields.items():
        for inner in _inner(field):
            yield field.alias or name, inner


def _top(model: type[Settings]) -> Iterator[Row]:
    """Rows of a run's own keys; a section's is a link to its table."""
    kinds = {where.split(",")[0]: heading for heading, where in _KINDS.values()}
    for name, field in model.model_fields.items():
        if _inner(field):
            yield f"[`{name}`](#{name})", "", "section", _meaning(model, name)
        elif name in kinds:
            anchor = kinds[name].lower().replace(" ", "-")
            yield f"`{name}`", _default(field), f"[{kinds[name].lower()}](#{anchor})", _meaning(model, name)
        else:
            yield _row(model, name, field)


def _rows(model: type[Settings], before: str = "") -> Iterator[Row]:
    """Rows of all settings of ``model``, those of sections inside it with their path."""
    for name, field in model.model_fields.items():
        if name == "id":
            continue
        inner = _inner(field)
        if not inner or not _always_there(field):
            yield _row(model, name, field, before)
        for section in inner:
            yield from _rows(section, f"{before}{field.alias or name}.")


def _row(model: type[Settings], name: str, field: FieldInfo, before: str = "") -> Row:
    return f"`{before}{field.alias or name}`", _default(field), _values(field), _meaning(model, name)


def _meaning(model: type[Settings], name: str) -> str:
    """A field's description; where a subclass only gives it another default, its base's."""
    for owner in model.__mro__:
        field = getattr(owner, "model_fields", {}).get(name)
        if field is not None and field.description:
            return str(field.description).replace("|", "\\|")
    raise LookupError(f"{model.__qualname__}.{name} has no description")


def _summary(model: type[Settings]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _inner(field: FieldInfo) -> list[type[Settings]]:
    """The sections that a field may hold."""
    marks = [mark.model for mark in field.metadata if isinstance(mark, SectionField)]
    found = [*marks, *(one for one in _alternatives(field.annotation) if isinstance(one, type))]
    return [one for one in found if issubclass(one, Settings)]


def _always_there(field: FieldInfo) -> bool:
    """Whether the section holds with its own defaults where the config does not name it."""
    return isinstance(field.get_default(call_default_factory=True), Settings)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return tuple(one for part in typing.get_args(annotation) for one in _alternatives(part))
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    return (annotation,)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    plugin = next((mark for mark in field.metadata if isinstance(mark, PluginField)), None)
    if plugin and plugin.default and value == {}:
        value = plugin.default
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    """A value as a config would have it."""
    if isinstance(value, Settings):
        value = value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(one)}" for key, one in value.items()) + "}"
    return value if isinstance(value, str) and value else json.dumps(value)


def _values(field: FieldInfo) -> str:
    if plugin := next((mark for mark in field.metadata if isinstance(mark, PluginField)), None):
        return f"[{_KINDS[plugin.kind][0].lower()}](#{_KINDS[plugin.kind][0].lower().replace(' ', '-')})"
    limits = [
        f"{sign} {getattr(mark, name)}" for name, sign in _LIMITS for mark in field.metadata if hasattr(mark, name)
    ]
    return ", ".join([" or ".join(dict.fromkeys(map(_kind, _alternatives(field.annotation)))), *limits])


def _kind(annotation: Any) -> str:
    """A type in a reader's words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{_text(one)}`" for one in arguments)
    if origin in (list, tuple):
        plugin = next(
            (m for one in arguments for m in getattr(one, "__metadata__", ()) if isinstance(m, PluginField)), None
        )
        of = _KINDS[plugin.kind][0].lower() if plugin else _kind(_alternatives(arguments[0])[0])
        return f"list of {of}"
    if origin is dict or origin in (typing.Mapping, dict):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "section"
    names = {bool: "true, false", int: "whole number", float: "number", str: "text", type(None): "null", Path: "path"}
    return names.get(annotation, "any" if annotation is Any else getattr(annotation, "__name__", str(annotation)))


if __name__ == "__main__":
    print(page(), end="")
