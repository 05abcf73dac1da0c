"""Prompt files: every text a model is shown, as Jinja files with a YAML head that users edit.

    ---
    kind: judge
    description: one line for people
    variables: [instruction, response]
    score: {min: 0, max: 5, pattern: 'score: (\\d)'}     # where the answer is read from text
    answer_prefix: "Score: "                            # where it is read from logits
    choices: ["0", "1", "2"]
    values: [0, 1, 2]                                   # what the choices are worth, where they are words
    ---
    === system ===
    Optional. Without such lines the whole body is one user message.
    === user ===
    {{ instruction }} ...

A file is split into messages and compiled before any value is put in, and values are only ever
values: a candidate that contains template code, or a line like those above, stays text.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, ValidationError, field_validator, model_validator

from selfalign.config import Settings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id
from selfalign.shipped import shipped
from selfalign.template_limits import refused
from selfalign.types import Message

SUFFIX = ".j2"
_HEAD = re.compile(r"\A---[ \t]*\n(?P<head>.*?)^---[ \t]*(?:\n|\Z)(?P<body>.*)\Z", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^=== (\w+) ===[ \t]*$\n?", re.MULTILINE)
_ROLES = ("system", "user", "assistant")
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


class ScoreFormat(Settings):
    """How a score is found in an answer. ``pattern`` has a group for the number (``score``, or the first one).

    A group named ``of`` is the scale that the answer claims ("4/5"); it must then equal ``max``, and so must a scale that
    is named in common words beside the number ("4 out of 5", "(0-5): 4"), with or without such a group.
    """

    min: float
    max: float
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not groups:
            raise ValueError("needs a group ( ) around the number")
        return pattern

    @model_validator(mode="after")
    def _has_a_range(self) -> ScoreFormat:
        if not self.min < self.max:
            raise ValueError("min must be below max")
        return self


class _Head(Settings):
    kind: str = Field(min_length=1)
    description: str = ""
    variables: list[str]
    score: ScoreFormat | None = None
    choices: list[str] | None = Field(None, min_length=2)
    answer_prefix: str = ""
    values: list[float] | None = None

    @field_validator("choices", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # An unquoted 3 in YAML is a number.
        return [str(v) if type(v) is int else v for v in value] if isinstance(value, list) else value

    @field_validator("choices")
    @classmethod
    def _are_distinct(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (len(set(value)) < len(value) or "" in value):
            raise ValueError("must be different from one another and not empty")
        return value

    @model_validator(mode="after")
    def _every_choice_has_a_value(self) -> _Head:
        if self.values is not None and len(self.values) != len(self.choices or ()):
            raise ValueError(f"values: has {len(self.values)} numbers for {len(self.choices or ())} choices")
        if not all(map(math.isfinite, self.values or ())):
            raise ValueError("values: must be finite numbers")
        return self


@dataclass(frozen=True)
class Template:
    """A checked prompt file. ``hash`` covers the file's text, not its name or place.

    ``values`` has a number for each of ``choices``, or is empty where the file gives none.
    """

    name: str
    path: Path
    kind: str
    description: str
    body: str
    variables: tuple[str, ...]
    score: ScoreFormat | None
    choices: tuple[str, ...]
    values: tuple[float, ...]
    answer_prefix: str
    hash: str
    _parts: tuple[tuple[str, jinja2.Template], ...]

    def messages(self, **values: str) -> tuple[Message, ...]:
        """The conversation to show, with ``values`` (exactly the declared variables) put in verbatim.

        Raises:
            PromptFileError: values are missing or unknown, or the template fails on them.
        """
        if values.keys() != set(self.variables):
            raise PromptFileError(
                f"{self.path}: has variables {_names(self.variables)} and was given {_names(sorted(values))}"
            )
        try:
            return tuple({"role": role, "content": part.render(values)} for role, part in self._parts)
        except Exception as error:  # whatever a user's template does wrong while it runs
            raise PromptFileError(f"{self.path}: cannot be filled in: {_one_line(error)}") from None


class Templates:
    """Prompt files by name ("judges/additive"), searched in ``folders`` in order, or by path ("my/rubric.j2")."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    def load(self, name: str) -> Template:
        """Find, read and check a prompt file.

        Raises:
            PromptFileError: one line that names the file and what is known or expected.
        """
        path = self._find(name)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptFileError(f"{path}: cannot be read as UTF-8 text: {_one_line(error)}") from None
        return _parse(name, path, text)

    def names(self) -> list[str]:
        """Every name that :meth:`load` knows."""
        found = {
            path.relative_to(folder).with_suffix("").as_posix()
            for folder in self.folders
            for path in folder.rglob(f"*{SUFFIX}")
        }
        return sorted(found)

    def _find(self, name: str) -> Path:
        for folder in self.folders:
            path = folder / (name if name.endswith(SUFFIX) else name + SUFFIX)
            if path.is_file():
                return path
        if name.endswith(SUFFIX) and Path(name).is_file():
            return Path(name)
        known = self.names()
        near = difflib.get_close_matches(name.removesuffix(SUFFIX), known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise PromptFileError(
            f"no prompt file '{name}' in {_names([str(folder) for folder in self.folders])}; {hint}known: {_names(known)}"
        )


def shipped_prompts() -> Path:
    """The prompts/ folder that comes with the package."""
    return shipped("prompts")


def _parse(name: str, path: Path, text: str) -> Template:
    found = _HEAD.match(text)
    if not found:
        raise PromptFileError(f"{path}: must begin with a YAML head between two lines of ---")
    head = _parse_head(path, found["head"])
    body = found["body"].strip("\n")
    sources = _split(path, body)
    _check_variables(path, [source for _, source in sources], head.variables)
    return Template(
        name=name.removesuffix(SUFFIX),
        path=path,
        kind=head.kind,
        description=head.description,
        body=body,
        variables=tuple(head.variables),
        score=head.score,
        choices=tuple(head.choices or ()),
        values=tuple(head.values or ()),
        answer_prefix=head.answer_prefix,
        hash=content_id("template", found["head"], body),
        _parts=tuple((role, _ENVIRONMENT.from_string(source)) for role, source in sources),
    )


def _parse_head(path: Path, text: str) -> _Head:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 2}" if mark else str(path)
        raise PromptFileError(f"{where}: the head is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise PromptFileError(f"{path}: the head must be a mapping with at least kind and variables")
    try:
        return _Head.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise PromptFileError(f"{path}: {problems}") from None


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "head"
    if problem["type"] == "extra_forbidden":
        known = ScoreFormat if len(problem["loc"]) > 1 else _Head
        return f"{key}: unknown key; known: {_names(known.model_fields)}"
    return f"{key}: {problem['msg'].removeprefix('Value error, ').lower()}"


def _split(path: Path, body: str) -> list[tuple[str, str]]:
    """(role, source) of each message."""
    before, *rest = _MARK.split(body)
    if not rest:
        parts = [("user", body.strip("\n"))]
    elif before.strip():
        raise PromptFileError(f"{path}: text before the first '=== role ===' line; move it below")
    else:
        parts = [(role, source.strip("\n")) for role, source in zip(rest[::2], rest[1::2], strict=True)]
    roles = [role for role, _ in parts]
    if unknown := [role for role in roles if role not in _ROLES]:
        raise PromptFileError(f"{path}: '=== {unknown[0]} ===' is no role; known: {_names(_ROLES)}")
    if roles[-1] != "user" or "system" in roles[1:]:
        raise PromptFileError(f"{path}: the last message must be the user's and a system message the first one")
    if any(not source.strip() for _, source in parts):
        raise PromptFileError(f"{path}: has an empty message; write what the model is shown")
    return parts


def _check_variables(path: Path, sources: Sequence[str], declared: Sequence[str]) -> None:
    """Declared variables must be the used ones; other files cannot be pulled in, as the hash would not cover them."""
    used: set[str] = set()
    for source in sources:
        try:
            tree = _ENVIRONMENT.parse(source)
            if any(True for _ in meta.find_referenced_templates(tree)):
                raise PromptFileError(f"{path}: include, import and extends are not supported; copy the text in")
            # Before it is compiled: Jinja works out constant expressions like 9**9**9 then.
            if problem := refused(tree):
                raise PromptFileError(f"{path}: {problem}")
            # Compiled as well: some mistakes are only found then.
            _ENVIRONMENT.from_string(source)
        except jinja2.TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line} of the message)" if line else ""
            raise PromptFileError(f"{path}: not a valid Jinja template{where}: {_one_line(error)}") from None
        used |= meta.find_undeclared_variables(tree) - _ENVIRONMENT.globals.keys()
    if unknown := sorted(used - set(declared)):
        raise PromptFileError(
            f"{path}: uses {_names(unknown)} without declaring it; declared variables: {_names(declared)}"
        )
    if unused := sorted(set(declared) - used):
        raise PromptFileError(f"{path}: declares {_names(unused)} and never uses it; used: {_names(sorted(used))}")


def _names(names: Any) -> str:
    return ", ".join(names) or "none"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
