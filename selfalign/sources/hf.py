"""Prompts from a dataset of the Hugging Face library: a folder that save_to_disk wrote, or a name on the hub.

A folder of data files (Parquet, JSONL, CSV), as a dataset's repository on the hub is, works as well. Conversational
columns (``messages``, a ``prompt`` that is a list) give their first user turn. Rows are read one at a time from files
that are mapped into memory; with ``streaming`` they are fetched as they are read and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.rows import pick
from selfalign.sources.settings import TableSettings
from selfalign.sources.tables import prompt_of_row
from selfalign.types import Prompt

#: What save_to_disk leaves: of one split, and of several.
_SAVED = ("dataset_info.json", "dataset_dict.json")


class HfSource:
    """See the module's text; ``base`` is the folder that relative paths start from."""

    class Config(TableSettings):
        id: Literal["hf"] = "hf"
        dataset: str = Field(min_length=1, description="a folder that save_to_disk wrote, or a name on the hub")
        name: str | None = Field(None, min_length=1, description="which of the dataset's configurations (subsets)")
        split: str = Field("train", min_length=1, description="which split; slices as train[:1000] work as well")
        revision: str | None = Field(None, min_length=1, description="branch, tag or commit on the hub")
        streaming: bool = Field(False, description="fetch rows as they are read, for data too large to keep")

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.folder = next((f for f in (base / config.dataset, Path(config.dataset)) if f.is_dir()), None)
        if self.folder is None and not _may_be_on_hub(config.dataset):
            raise PromptFileError(f"{config.dataset}: no such folder, and no name on a hub; check the path")

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt, in the dataset's order; its origin is the dataset, the split and the row's number, from 1.

        Raises:
            PromptFileError: the first thing that is wrong, with dataset and row.
        """
        return islice(self._prompts(), self.config.limit)

    def _prompts(self) -> Iterator[Prompt]:
        shown = f"{self.folder or self.config.dataset} [{self.config.split}]"
        data = self._open(shown)
        names = data.column_names
        if names is None:  # a stream may not know before its first row
            first = next(iter(data), None)
            names = list(first) if first else []
        try:
            picked = pick(names, self.config.columns)
        except BadInput as error:
            raise PromptFileError(f"{shown}: {error}") from None
        name = f"{Path(self.config.dataset).name}[{self.config.split}]"
        rows, number = iter(data.select_columns(picked.names)), 0
        while True:
            try:
                row = next(rows)
            except StopIteration:
                break
            except Exception as error:  # any of the readers' errors
                raise PromptFileError(f"{shown}: damaged after row {number} ({_line(error)}); fetch it again") from None
            number += 1
            prompt = prompt_of_row(row, picked, f"{shown}: row {number}", f"{name}:{number}", self.config)
            if prompt is not None:
                yield prompt
        if not number:
            raise PromptFileError(f"{shown}: has no row; name another split")

    def _open(self, shown: str) -> Any:
        """A Dataset, or an IterableDataset where it is streamed."""
        import datasets

        config = self.config
        if self.folder is not None and any((self.folder / mark).is_file() for mark in _SAVED):
            return self._saved(shown)
        try:
            return datasets.load_dataset(
                str(self.folder or config.dataset), config.name, split=config.split, revision=config.revision,
                streaming=config.streaming,
            )  # fmt: skip
        except Exception as error:  # the hub's, the network's and the readers' own classes
            raise PromptFileError(f"{shown}: {_remedy(error, self.folder is not None)}") from None

    def _saved(self, shown: str) -> Any:
        import datasets

        if self.config.streaming or self.config.name or self.config.revision:
            raise PromptFileError(f"{shown}: name, revision and streaming are for the hub; this is a saved dataset")
        try:
            data = datasets.load_from_disk(str(self.folder))
        except Exception as error:
            raise PromptFileError(f"{shown}: damaged ({_line(error)}); save it again") from None
        split, bracket, rest = self.config.split.partition("[")
        if isinstance(data, datasets.DatasetDict):
            if split not in data:
                raise PromptFileError(f"{shown}: has no such split; found: {', '.join(data)}")
            data = data[split]
        elif str(data.split or split) != split:
            raise PromptFileError(f"{shown}: has no such split; this is split: {data.split}")
        return _sliced(data, rest.removesuffix("]"), shown) if bracket else data


def _sliced(data: Any, rest: str, shown: str) -> Any:
    """The rows that ``from:to`` names; percentages are the hub's alone."""
    begin, colon, end = rest.partition(":")
    try:
        wanted = slice(int(begin) if begin else None, int(end) if end else None)
    except ValueError:
        colon = ""
    if not colon:
        raise PromptFileError(f"{shown}: write the slice of a saved dataset as numbers of rows, e.g. train[:1000]")
    return data.select(range(*wanted.indices(len(data))))


def _may_be_on_hub(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0] not in ".~" for part in parts) and not Path(name).suffix


def _remedy(error: Exception, local: bool) -> str:
    said = _line(error)
    if "split" in said.lower() and ("unknown" in said.lower() or "bad split" in said.lower()):
        return f"has no such split ({said})"
    if "BuilderConfig" in said or "Config name is missing" in said:
        return f"{said}; set name"
    if local:
        return f"cannot be read ({said}); give a folder that save_to_disk wrote, or one of Parquet, JSONL or CSV files"
    return f"cannot be had from the hub ({said}); check the name and the connection, or give a folder that save_to_disk wrote"


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
