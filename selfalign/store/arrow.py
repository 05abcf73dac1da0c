"""Rows as Arrow tables and back. The dataclass's type hints are the schema; nothing is written twice."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

R = TypeVar("R")

_SCALARS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
#: Elements of a list: token ids are most of a store's bytes and fit 32 bits.
_ELEMENTS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64()}


@cache
def arrow_schema(kind: type) -> pa.Schema:
    """Arrow schema of a row class: its fields, in order.

    Raises:
        TypeError: a field has a type that no column can hold.
    """
    hints = get_type_hints(kind)
    return pa.schema([_field(kind, field.name, hints[field.name]) for field in fields(kind)])


def to_table(rows: Sequence[Any], kind: type | None = None) -> pa.Table:
    """Rows of one class as a table; ``kind`` is needed only where ``rows`` may be empty.

    Raises:
        TypeError: rows of several classes.
    """
    kind = kind or type(rows[0])
    if any(type(row) is not kind for row in rows):
        raise TypeError(f"rows of one class are needed, {kind.__name__} and others given")
    schema = arrow_schema(kind)
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def from_table(kind: type[R], table: pa.Table) -> list[R]:
    """Instances of ``kind`` from a table that has (at least) its columns, in any order.

    Raises:
        KeyError: a column is missing.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    columns = [_values(table[name]) for name in names]
    return [kind(*values) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_list(column.type):
        return [None if value is None else tuple(value) for value in values]
    return values


def _field(kind: type, name: str, hint: Any) -> pa.Field:
    inner, nullable = _without_none(hint)
    arrow = _arrow_type(inner)
    if arrow is None:
        raise TypeError(f"{kind.__name__}.{name}: no column type for {hint}")
    return pa.field(name, arrow, nullable=nullable)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return (members[0] if len(members) == 1 else hint), True
    return hint, False


def _arrow_type(hint: Any) -> pa.DataType | None:
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        element = _ELEMENTS.get(get_args(hint)[0])
        return None if element is None else pa.list_(element)
    return _SCALARS.get(hint)
