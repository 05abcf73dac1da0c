"""Prompts from a Parquet file, or from a folder of them in order of name. Only the columns that are needed are read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.files import find_file
from selfalign.sources.rows import pick
from selfalign.sources.settings import TableSettings
from selfalign.sources.tables import prompt_of_row
from selfalign.types import Prompt

#: Rows in memory at once.
_BATCH = 1024


class ParquetSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(TableSettings):
        id: Literal["parquet"] = "parquet"
        path: str = Field(min_length=1, description="a file, or a folder with *.parquet files")

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.path = find_file(config.path, base, folders=True)

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt, in the files' order; its origin is the file and the row's number in it, from 1.

        Raises:
            PromptFileError: the first thing that is wrong, with file and row.
        """
        return islice(self._prompts(), self.config.limit)

    def _prompts(self) -> Iterator[Prompt]:
        files = sorted(self.path.glob("*.parquet")) if self.path.is_dir() else [self.path]
        if not files:
            raise PromptFileError(f"{self.path}: holds no *.parquet file; name the folder that does")
        empty = True
        for file in files:
            for number, prompt in self._rows(file):
                empty = False
                if prompt is not None:
                    yield prompt
                del number
        if empty:
            raise PromptFileError(f"{self.path}: has no row; write one for each prompt")

    def _rows(self, file: Path) -> Iterator[tuple[int, Prompt | None]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            opened = pq.ParquetFile(file, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise PromptFileError(
                f"{file}: not a whole Parquet file ({_line(error)}); copy or write it again"
            ) from None
        with opened:
            try:
                picked = pick(opened.schema_arrow.names, self.config.columns)
            except BadInput as error:
                raise PromptFileError(f"{file}: {error}") from None
            number = 0
            batches = opened.iter_batches(_BATCH, columns=picked.names, use_threads=False)
            while True:
                try:
                    rows: list[dict[str, Any]] = next(batches).to_pylist()
                except StopIteration:
                    return
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    raise PromptFileError(
                        f"{file}: damaged after row {number} ({_line(error)}); copy or write it again"
                    ) from None
                for row in rows:
                    number += 1
                    where, origin = f"{file}: row {number}", f"{file.name}:{number}"
                    yield number, prompt_of_row(row, picked, where, origin, self.config)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
