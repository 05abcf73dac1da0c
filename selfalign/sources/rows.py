"""A row of a table becomes a record as the JSONL source describes it. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from selfalign.errors import BadInput
from selfalign.sources.records import TEXT_KEYS
from selfalign.sources.settings import Columns

#: Columns that hold conversations: of {"role", "content"} (TRL, OpenAI) or {"from", "value"} (ShareGPT).
_CONVERSATIONS = ("messages", "conversations")
_USERS = ("user", "human")
_ASSISTANTS = ("assistant", "gpt", "model")
#: Fields that are lists of objects or names; a text in their place is JSON.
_LISTS = ("instruction_id_list", "kwargs")


@dataclass(frozen=True)
class Picked:
    """Which column is what: field -> column, and the fields that the settings named."""

    columns: Mapping[str, str]
    named: Collection[str]

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(self.columns.values()))


def pick(names: Collection[str], settings: Columns) -> Picked:
    """The columns to take from a table with these ``names``.

    Raises:
        BadInput: a named column is not there, or none holds a text.
    """
    given = settings.model_dump(exclude_none=True)
    known = ", ".join(names) or "none"
    for field, name in given.items():
        if name not in names:
            raise BadInput(f"has no column '{name}' (columns.{field}); found: {known}")
    found = {
        field: field for field in Columns.model_fields if field not in ("text", "input") and field in names
    } | given
    if "text" not in found:
        text = next((name for name in (*TEXT_KEYS, *_CONVERSATIONS) if name in names), None)
        if text is None:
            raise BadInput(
                f"has no column {', '.join(TEXT_KEYS)}, {' or '.join(_CONVERSATIONS)}; name the one with the instructions, "
                f"columns: {{text: NAME}} (found: {known})"
            )
        found["text"] = text
    if found["text"] == "instruction" and "input" in names:
        found.setdefault("input", "input")
    return Picked(found, frozenset(given))


def record_of(row: Mapping[str, Any], picked: Picked) -> dict[str, Any]:
    """What :func:`selfalign.sources.records.prompt_of` takes; values that are empty are left out, but for the text.

    Raises:
        BadInput: a value is not what its column should hold.
    """
    record: dict[str, Any] = {"text": _text(row, picked)}
    for field, column in picked.columns.items():
        if field in ("text", "input"):
            continue
        value = row.get(column)
        if field in _LISTS:
            value = _parsed(value, column)
        elif field == "answer" and _conversational(value, column):
            value = _turn(_parsed(value, column), column, _ASSISTANTS)
        elif not isinstance(value, str) and field not in picked.named:
            continue  # a column that happens to be called so, such as the number of the right choice
        if value is not None and value != "":
            record[field] = value
    return record


def _text(row: Mapping[str, Any], picked: Picked) -> Any:
    column = picked.columns["text"]
    value = row.get(column)
    if _conversational(value, column):
        return _turn(_parsed(value, column), column, _USERS)
    added = row.get(picked.columns["input"]) if "input" in picked.columns else None
    if isinstance(value, str) and value.strip() and isinstance(added, str) and added.strip():
        return f"{value}\n\n{added}"
    return value


def _conversational(value: Any, column: str) -> bool:
    return isinstance(value, list) or (column in _CONVERSATIONS and isinstance(value, str))


def _turn(messages: Any, column: str, roles: Collection[str]) -> Any:
    """The first user turn, or what the assistant says right after it; None where there is none."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadInput(f"column '{column}' holds no conversation; it must be a list of messages with role and content")
    said = [
        (message.get("role", message.get("from")), message.get("content", message.get("value"))) for message in messages
    ]
    if messages and not any(isinstance(role, str) for role, _ in said):
        raise BadInput(f"column '{column}': messages have no role; found: {', '.join(map(str, messages[0]))}")
    first = next((at for at, (role, _) in enumerate(said) if role in _USERS), None)
    if first is None:
        raise BadInput(
            f"column '{column}' has no user turn; found: {', '.join(str(role) for role, _ in said) or 'nothing'}"
        )
    if roles is _USERS:
        return _plain(said[first][1], column)
    return next((_plain(text, column) for role, text in said[first + 1 : first + 2] if role in roles), None)


def _plain(content: Any, column: str) -> Any:
    """A message's text; of a list of parts (OpenAI's form) those of type text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) != len(content):
            raise BadInput(f"column '{column}': the user turn holds more than text; selfalign trains on text alone")
        return "\n".join(str(part) for part in parts)
    return content


def _parsed(value: Any, column: str) -> Any:
    if not isinstance(value, str) or not value.strip():
        return value or None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadInput(f"column '{column}' must hold JSON, as a list of objects or names") from None
