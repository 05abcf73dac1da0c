"""Prompts with good answers, from which gold items are made; and the phrases that worse answers are padded with.

``data/gold_answers.jsonl`` holds one prompt a line:

    {"key": "...", "group": "...", "language": "en", "topic": "explain", "prompt": "...", "answers": ["..."],
     "wrong": {"fact": ["..."]}, "reference": "", "instruction_id_list": [], "kwargs": []}

All ``answers`` are good; they differ in length. ``wrong`` holds authored worse answers by kind. Prompts of one
``group`` belong together (rivals, translations, one template) and go to the same split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from selfalign import constraints
from selfalign.config import Settings
from selfalign.errors import BadInput, PromptFileError


@dataclass(frozen=True)
class Answer:
    """One prompt; ``answers`` holds at least one text, each of which follows all constraints."""

    key: str
    group: str
    language: str
    topic: str
    prompt: str
    answers: tuple[str, ...]
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reference: str = ""
    instruction_id_list: tuple[str, ...] = ()
    kwargs: tuple[Mapping[str, Any], ...] = ()


class _Line(Settings):
    key: str = Field(min_length=1)
    group: str = Field(min_length=1)
    language: str = Field(min_length=1)
    topic: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    answers: list[str] = Field(min_length=1)
    wrong: dict[str, list[str]] = Field(default_factory=dict)
    reference: str = ""
    instruction_id_list: list[str] = Field(default_factory=list)
    kwargs: list[dict[str, Any]] = Field(default_factory=list)


#: Phrase lists by (kind, language).
Phrases = Mapping[tuple[str, str], tuple[str, ...]]


def load_answers(path: Path) -> list[Answer]:
    """The prompts in the file's order.

    Raises:
        PromptFileError: the first line that is wrong, as file:line.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            data = _Line.model_validate_json(line)
            constraints.validate_ids(data.instruction_id_list, data.kwargs)
        except (ValidationError, BadInput) as error:
            raise PromptFileError(f"{path}:{number}: {' '.join(str(error).split())}") from None
        found.append(
            Answer(
                data.key, data.group, data.language, data.topic, data.prompt, tuple(data.answers),
                {kind: tuple(texts) for kind, texts in data.wrong.items()}, data.reference,
                tuple(data.instruction_id_list), tuple(data.kwargs),
            )
        )  # fmt: skip
    return found


def load_phrases(path: Path) -> Phrases:
    """``{"refusal": {"en": ["...", ...], "zh": [...]}, ...}`` as lists by (kind, language)."""
    data: dict[str, dict[str, list[str]]] = json.loads(path.read_text(encoding="utf-8"))
    return {(kind, language): tuple(texts) for kind, table in data.items() for language, texts in table.items()}
