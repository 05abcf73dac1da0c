"""A query's result in the formats that other programs read, on the screen or in a file."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from selfalign.durable import replacing
from selfalign.errors import BadInput
from selfalign.visible import json_safe, visible


class Format(StrEnum):
    """``table`` is for people; the others lose nothing."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"


def chosen_format(format: Format | None, as_json: bool, output: Path | None) -> Format:
    """What was asked for by --format, --json or the file's name.

    Raises:
        BadInput: they contradict one another, or what was asked for cannot go there.
    """
    if as_json and format not in (None, Format.json):
        raise BadInput(f"--json and --format {format} contradict each other; give one of them")
    asked = Format.json if as_json else format
    if asked is None and output is not None:
        by_name = [name for name in Format if output.suffix.lower() == f".{name}"]
        if not by_name:
            raise BadInput(f"{output}: the name does not tell the format; add --format csv, json, jsonl or parquet")
        asked = by_name[0]
    if asked is Format.table and output is not None:
        raise BadInput("a table is for the terminal; for a file use --format csv, json, jsonl or parquet")
    if asked is Format.parquet and output is None:
        raise BadInput("parquet is not text; name a file with --output FILE.parquet")
    return asked or Format.table


def save(table: pa.Table, format: Format, output: Path) -> None:
    """Write ``output`` whole or not at all; a file of that name is replaced.

    Raises:
        BadInput: the file cannot be written, or the format cannot hold the columns.
    """
    _check_columns(table, format)
    try:
        with replacing(output) as stream:
            if format is Format.parquet:
                _write_parquet(table, stream)
            else:
                _write_text(table, format, stream)
    except OSError as error:
        raise BadInput(f"{output}: cannot be written: {error.strerror or error}; name another file") from None


def show(table: pa.Table, format: Format) -> None:
    """Print as csv, json or jsonl. On a terminal, active characters in csv are shown as escapes."""
    _check_columns(table, format)
    buffer = io.BytesIO()
    _write_text(table, format, buffer)
    text = buffer.getvalue().decode("utf-8")
    try:
        sys.stdout.write(visible(text) if format is Format.csv and sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Values row by row; unlike a dict a row, it holds two columns of one name."""
    return zip(*(column.to_pylist(maps_as_pydicts="lossy") for column in table.columns), strict=True)


def _check_columns(table: pa.Table, format: Format) -> None:
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice and format is not Format.csv:
        raise BadInput(f"two columns are called '{twice[0]}', which {format} cannot hold; name one with AS")


def _write_text(table: pa.Table, format: Format, stream: BinaryIO) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    with contextlib.ExitStack() as stack:
        stack.callback(text.detach)  # the stream is the caller's to close
        if format is Format.csv:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(table.column_names)
            writer.writerows([_csv_cell(value) for value in row] for row in rows(table))
            return
        objects = (_json(dict(zip(table.column_names, row, strict=True))) for row in rows(table))
        if format is Format.jsonl:
            text.writelines(f"{line}\n" for line in objects)
        else:
            text.write(f"[{', '.join(objects)}]\n")


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, stream)


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return _json(value)
    return _plain(value)


def _json(value: Any) -> str:
    return json_safe(json.dumps(_plain(value), ensure_ascii=False, default=str))


def _plain(value: Any) -> Any:
    """As JSON has it: no NaN or infinity, whole decimals (DuckDB's sums) as integers, times in ISO 8601."""
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value
