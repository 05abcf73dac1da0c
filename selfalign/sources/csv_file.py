"""Prompts from a CSV file: a header with column names, then a row each. Text may hold line ends inside quotes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.files import LONGEST_LINE, checked_encoding, find_file, read_text
from selfalign.sources.rows import Picked, pick
from selfalign.sources.settings import TableSettings
from selfalign.sources.tables import prompt_of_row
from selfalign.types import Prompt


class CsvSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(TableSettings):
        id: Literal["csv"] = "csv"
        path: str = Field(min_length=1, description="relative to where the command is run")
        delimiter: str | None = Field(
            None, min_length=1, max_length=1, description="between fields; null: a tab in .tsv files, else a comma"
        )
        encoding: Annotated[str, AfterValidator(checked_encoding)] = Field("utf-8", description="e.g. cp1252, gb18030")

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.path = find_file(config.path, base)
        self.delimiter = config.delimiter or ("\t" if self.path.suffix.lower() == ".tsv" else ",")

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt, in the file's order; its origin is the line where its row begins.

        Raises:
            PromptFileError: the first thing that is wrong, as file:line.
        """
        return islice(self._rows(), self.config.limit)

    def _rows(self) -> Iterator[Prompt]:
        table = self._table()
        _, header = next(table, (1, []))
        if not header:
            raise PromptFileError(
                f"{self.path}: is empty; write a header with column names, such as text, and a row each"
            )
        picked = self._pick(header)
        empty = True
        for line, fields in table:
            empty = False
            where = f"{self.path}:{line}"
            if len(fields) != len(header):
                raise PromptFileError(
                    f"{where}: has {len(fields)} fields where the header has {len(header)}; put text that holds the "
                    f'delimiter or line ends in quotes ("...")'
                )
            row = dict(zip(header, fields, strict=True))
            prompt = prompt_of_row(row, picked, where, f"{self.path.name}:{line}", self.config)
            if prompt is not None:
                yield prompt
        if empty:
            raise PromptFileError(f"{self.path}: has a header and no row; write a row for each prompt")

    def _pick(self, header: list[str]) -> Picked:
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise PromptFileError(f"{self.path}:1: two columns are called '{twice[0]}'; rename one")
        try:
            return pick(header, self.config.columns)
        except BadInput as error:
            other = next(
                (f"; is the delimiter {mark!r}?" for mark in ";\t|," if len(header) == 1 and mark in header[0]), ""
            )
            raise PromptFileError(f"{self.path}:1: {error}{other}") from None

    def _table(self) -> Iterator[tuple[int, list[str]]]:
        """(line where it begins, fields) of every row that is not empty."""
        # Only ever raised; Python's default refuses fields above 128 KB.
        csv.field_size_limit(max(LONGEST_LINE, csv.field_size_limit()))
        reader = csv.reader(
            (line for _, line in read_text(self.path, self.config.encoding)), delimiter=self.delimiter, strict=True
        )
        begins = 1
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise PromptFileError(f"{self.path}:{begins}: {_explained(str(error))}") from None
            if fields:
                yield begins, fields
            begins = reader.line_num + 1


def _explained(said: str) -> str:
    if "unexpected end of data" in said:
        return 'a quote (") is opened here and never closed; close it, or write quotes inside text twice ("")'
    if "expected after" in said:
        return 'text follows a closing quote; write quotes inside text twice ("")'
    if "new-line character" in said:
        return "line ends are those of old Macs (CR alone); save the file with line ends of Unix or Windows"
    return f"not CSV: {said}"
