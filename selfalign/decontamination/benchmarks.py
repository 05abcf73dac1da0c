"""Benchmark files that a user supplies, as items: JSON lines, Parquet, CSV, or plain text with an item a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import BadInput

#: Columns that are taken where none is named; the first that the file has.
KNOWN_COLUMNS = ("question", "prompt", "instruction", "problem", "text", "input", "query", "context", "sentence")


@dataclass(frozen=True)
class Item:
    """``place`` is the item's line or row in ``file``, from 1."""

    file: str
    place: int
    text: str


def read_items(path: Path, column: str | None = None) -> list[Item]:
    """The items of a file by its name's ending, each the text of ``column``; items without text are passed over.

    A column of messages counts with the texts of all of them.

    Raises:
        BadInput: the file cannot be read, or has no such column.
    """
    readers = {".jsonl": _json_lines, ".json": _json_lines, ".parquet": _parquet, ".csv": _csv, ".txt": _lines}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise BadInput(f"{path}: the name does not tell the format; known endings: {', '.join(readers)}")
    try:
        rows = list(read(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    found = [Item(path.name, place, text) for place, row in rows if (text := _text(path, row, column)).strip()]
    if not found:
        raise BadInput(f"{path}: has no item with text; is it the right file?")
    return found


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        yield from enumerate(_loaded(text, str(path)), start=1)
        return
    for place, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield place, _loaded(line, f"{path}:{place}")


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput(f"{where}: not JSON; write one object a line") from None


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
    except pa.ArrowException as error:
        raise BadInput(f"{path}: not a readable Parquet file ({' '.join(str(error).split())[:120]})") from None


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        yield from enumerate(csv.DictReader(handle), start=1)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    yield from enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1)


def _text(path: Path, row: Any, column: str | None) -> str:
    if isinstance(row, str) and column is None:
        return row
    if not isinstance(row, Mapping):
        raise BadInput(
            f"{path}: has no columns to choose '{column}' from" if column else f"{path}: items must be objects"
        )
    name = column or next((known for known in KNOWN_COLUMNS if known in row), None)
    if name is None or name not in row:
        looked = f"column '{name}'" if name else f"one of {', '.join(KNOWN_COLUMNS)}"
        raise BadInput(
            f"{path}: has no {looked} (found: {', '.join(map(str, row))}); name it with --decontaminate-column"
        )
    return "\n".join(_strings(row[name]))


def _strings(value: Any) -> Sequence[str]:
    """Every text in a value: a string, messages, or a list of either."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return _strings(value.get("content"))
    return [text for member in value for text in _strings(member)] if isinstance(value, list) else []
