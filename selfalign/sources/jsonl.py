"""Prompts from a JSONL file: one JSON object a line.

    {"text": "...", "language": "en", "category": "email", "instruction_id_list": [...], "kwargs": [{...}]}

Only the text is required. It may also be called "prompt" or "instruction", or be the one user turn
of {"messages": [...]}, so that IFEval's file and common instruction sets can be read as they are.
"answer" is a good answer to it: generate.demonstrations makes that a candidate. Keys that mean nothing here are ignored.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign import constraints
from selfalign.config import Settings
from selfalign.errors import BadInput, PromptFileError
from selfalign.identity import canonical, content_id
from selfalign.shipped import shipped
from selfalign.types import Prompt

_TEXT_KEYS = ("text", "prompt", "instruction")
#: Share of Chinese characters among letters from which a text without "language" is taken to be Chinese.
_CHINESE_SHARE = 0.2


class JsonlSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(Settings):
        id: Literal["jsonl"] = "jsonl"
        path: str = Field(min_length=1, description="relative to where the command is run; data/... is found anywhere")

    def __init__(self, config: Config, base: Path) -> None:
        self.path = find_file(config.path, base)

    def prompts(self) -> list[Prompt]:
        """Every prompt, in the file's order, as round 0 of the training split.

        Raises:
            PromptFileError: the first thing that is wrong, as file:line.
        """
        try:
            lines = self.path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        except OSError as error:
            raise PromptFileError(f"{self.path}: cannot be read: {error.strerror}") from None
        rows: list[Prompt] = []
        first_line: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                prompt = _prompt(line, f"{self.path.name}:{number}")
                if (earlier := first_line.setdefault(prompt.text, number)) != number:
                    raise BadInput(f"the same text as line {earlier}; remove one of them")
            except BadInput as error:
                raise PromptFileError(f"{self.path}:{number}: {error}") from None
            rows.append(prompt)
        if not rows:
            raise PromptFileError(f'{self.path}: is empty; write one {{"text": "..."}} a line')
        return rows


def find_file(path: str, base: Path) -> Path:
    """``path`` under ``base``, under the working folder, or in the shipped data/.

    Raises:
        PromptFileError: it is in none of them.
    """
    # "data/x.jsonl" in a config written for a checkout also names the shipped file of an installed package.
    shipped_name = Path(path).relative_to("data") if Path(path).parts[:1] == ("data",) else Path(path)
    tried = [base / path, Path.cwd() / path, shipped("data") / shipped_name]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    places = ", ".join(dict.fromkeys(str(candidate) for candidate in tried))
    raise PromptFileError(f"{path}: no such prompt file (tried {places}); check the path")


def guess_language(text: str) -> str:
    """Language code (zh, ja, ko, else en) by script alone, so without a download; a file can say it better."""
    letters = [character for character in text if character.isalpha()]
    scripts = [unicodedata.name(character, "").partition(" ")[0] for character in letters]
    share = {name: scripts.count(name) / max(1, len(letters)) for name in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")}
    if share["HANGUL"] >= _CHINESE_SHARE:
        return "ko"
    if share["HIRAGANA"] + share["KATAKANA"] >= _CHINESE_SHARE:
        return "ja"
    return "zh" if share["CJK"] >= _CHINESE_SHARE else "en"


def _prompt(line: bytes, origin: str) -> Prompt:
    data = _parse(line)
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
        language=_label(data, "language") or guess_language(text),
        category=_label(data, "category"),
        origin=origin,
        parent_id=None,
        rouge_max=None,
        instruction_id_list=tuple(ids),
        kwargs=arguments,
        answer=_answer(data),
    )


def _parse(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None
    except RecursionError:
        raise BadInput("not JSON: nested too deeply; write one object a line") from None
    except ValueError as error:
        # Not a JSONDecodeError: a number with thousands of digits.
        where = isinstance(error, json.JSONDecodeError)
        problem = f"{error.msg} (column {error.colno})" if where else "a number is too long"  # type: ignore[attr-defined]
        raise BadInput(f"not JSON: {problem}; write one object a line") from None
    if not isinstance(data, dict):
        raise BadInput(f"must be a JSON object, found {type(data).__name__}")
    return data


def _no_constant(name: str) -> Any:
    raise BadInput(f"{name} is not JSON; write a number")


def _text(data: Mapping[str, Any]) -> str:
    present = [key for key in _TEXT_KEYS if key in data]
    if present:
        text = data[present[0]]
    elif "messages" in data:
        text = _only_user_turn(data["messages"])
    else:
        raise BadInput(
            f"has no text; give one of {', '.join(_TEXT_KEYS)} or messages (found: {', '.join(data) or '{}'})"
        )
    if not isinstance(text, str) or not text.strip():
        raise BadInput("the text is empty or no string; write the instruction")
    _whole_characters(text, "text")
    return text


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
    _whole_characters(answer, "answer")
    return answer


def _whole_characters(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"the {what} holds half a character (a lone surrogate); write the whole character") from None


def _label(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key) or ""
    if not isinstance(value, str):
        raise BadInput(f"{key} must be a string")
    return value
