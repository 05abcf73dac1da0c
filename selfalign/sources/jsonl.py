"""Prompts from a JSONL file: one JSON object a line.

    {"text": "...", "language": "en", "category": "email", "instruction_id_list": [...], "kwargs": [{...}]}

Only the text is required. It may also be called "prompt" or "instruction", or be the one user turn
of {"messages": [...]}, so that IFEval's file and common instruction sets can be read as they are.
"answer" is a good answer to it: generate.demonstrations makes that a candidate. Keys that mean nothing here are ignored.
With ``columns`` keys have other names; a conversation named there may have several turns, of which the first counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.files import find_file, read_lines
from selfalign.sources.records import prompt_of
from selfalign.sources.rows import pick, record_of
from selfalign.sources.settings import Columns, SourceSettings
from selfalign.types import Prompt


class JsonlSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(SourceSettings):
        id: Literal["jsonl"] = "jsonl"
        path: str = Field(min_length=1, description="relative to where the command is run; data/... is found anywhere")
        columns: Columns | None = Field(None, description="keys that are called otherwise, e.g. {text: question}")

        repeats: bool = Field(False, description="take a text that the file has twice; prompts.dedupe sets it")

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.path = find_file(config.path, base)

    def prompts(self) -> list[Prompt]:
        """Every prompt, in the file's order, as round 0 of the training split.

        Raises:
            PromptFileError: the first thing that is wrong, as file:line.
        """
        rows = list(islice(self._rows(), self.config.limit))
        if not rows:
            raise PromptFileError(f'{self.path}: is empty; write one {{"text": "..."}} a line')
        return rows

    def _rows(self) -> Iterator[Prompt]:
        first_line: dict[str, int] = {}
        for number, line in read_lines(self.path):
            if line.strip():
                try:
                    record = self._record(_parse(line.removesuffix(b"\n")))
                    prompt = prompt_of(record, f"{self.path.name}:{number}", self.config.language)
                    if not self.config.repeats and (earlier := first_line.setdefault(prompt.text, number)) != number:
                        raise BadInput(
                            f"the same text as line {earlier}; remove one of them, or set prompts.dedupe: exact"
                        )
                    yield prompt
                except BadInput as error:
                    raise PromptFileError(f"{self.path}:{number}: {error}") from None

    def _record(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return data if self.config.columns is None else record_of(data, pick(data.keys(), self.config.columns))


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
