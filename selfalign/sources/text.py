"""Prompts from a plain text file: a line each, or a paragraph each with empty lines between them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.files import checked_encoding, find_file, read_text
from selfalign.sources.records import prompt_of
from selfalign.sources.settings import SourceSettings
from selfalign.types import Prompt


class TextSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(SourceSettings):
        id: Literal["text"] = "text"
        path: str = Field(min_length=1, description="relative to where the command is run")
        prompt: Literal["line", "paragraph"] = Field(
            "line", description="what a prompt is: a line, or what stands between empty lines"
        )
        encoding: Annotated[str, AfterValidator(checked_encoding)] = Field("utf-8", description="e.g. cp1252, gb18030")

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.path = find_file(config.path, base)

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt, in the file's order, without space around it; its origin is its first line.

        Raises:
            PromptFileError: the first thing that is wrong, as file:line.
        """
        return islice(self._prompts(), self.config.limit)

    def _prompts(self) -> Iterator[Prompt]:
        empty = True
        for number, text in self._texts():
            empty = False
            try:
                yield prompt_of({"text": text}, f"{self.path.name}:{number}", self.config.language)
            except BadInput as error:
                raise PromptFileError(f"{self.path}:{number}: {error}") from None
        if empty:
            raise PromptFileError(f"{self.path}: is empty; write a prompt a line")

    def _texts(self) -> Iterator[tuple[int, str]]:
        lines = read_text(self.path, self.config.encoding)
        if self.config.prompt == "line":
            yield from ((number, line.strip()) for number, line in lines if line.strip())
            return
        for written, group in groupby(lines, key=lambda line: bool(line[1].strip())):
            if written:
                members = list(group)
                yield members[0][0], "".join(text for _, text in members).strip()
