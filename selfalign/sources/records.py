"""A record, as the JSONL source describes it, becomes a prompt; every other source makes such records of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign import constraints
from selfalign.errors import BadInput
from selfalign.identity import canonical, content_id
from selfalign.sources.files import checked_text
from selfalign.sources.language import guess_language
from selfalign.types import Prompt

#: Names of the text, the first that is there counts.
TEXT_KEYS = ("text", "prompt", "instruction")


def prompt_of(data: Mapping[str, Any], origin: str, language: str | None = None) -> Prompt:
    """Round 0 of the training split. ``language`` is that of records which do not say it; None guesses it.

    Raises:
        BadInput: what is wrong with the record, without saying where it is.
    """
    text = _text(data)
    ids = data.get("instruction_id_list") or []
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise BadInput("instruction_id_list must be a list of names")
    kwargs = _kwargs(data.get("kwargs") or [])
    if ids or kwargs:
        constraints.validate_ids(ids, kwargs)
    arguments = canonical(kwargs)
    return Prompt(
        prompt_id=content_id("prompt", text, ids, arguments),
        round=0,
        split="train",
        text=text,
        language=_label(data, "language") or language or guess_language(text),
        category=_label(data, "category"),
        origin=origin,
        parent_id=None,
        rouge_max=None,
        instruction_id_list=tuple(ids),
        kwargs=arguments,
        answer=_answer(data),
    )


def _text(data: Mapping[str, Any]) -> str:
    present = [key for key in TEXT_KEYS if key in data]
    if present:
        text = data[present[0]]
    elif "messages" in data:
        text = _only_user_turn(data["messages"])
    else:
        raise BadInput(
            f"has no text; give one of {', '.join(TEXT_KEYS)} or messages (found: {', '.join(data) or '{}'})"
        )
    if not isinstance(text, str) or not text.strip():
        raise BadInput("the text is empty or no string; write the instruction")
    return checked_text(text, "text")


def _only_user_turn(messages: Any) -> Any:
    if (
        not isinstance(messages, list)
        or len(messages) != 1
        or not isinstance(messages[0], dict)
        or messages[0].get("role") != "user"
    ):
        raise BadInput("messages must hold a single user turn; system prompts go to generate.system_prompt")
    return messages[0].get("content")


def _kwargs(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadInput("kwargs must be a list of objects, one for each instruction id")
    # IFEval's own file lists every argument of every checker, most of them null.
    return [{name: argument for name, argument in item.items() if argument is not None} for item in value]


def _answer(data: Mapping[str, Any]) -> str | None:
    answer = data.get("answer")
    if answer is None:
        return None
    if not isinstance(answer, str) or not answer.strip():
        raise BadInput("the answer is empty or no string; write a good answer, or leave the key out")
    return checked_text(answer, "answer")


def _label(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key) or ""
    if not isinstance(value, str):
        raise BadInput(f"{key} must be a string")
    return value
