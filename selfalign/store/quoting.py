"""Names and texts as SQL takes them, whatever is in them. Pure."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name of a table, column or database."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """A text, or a path."""
    return "'" + str(text).replace("'", "''") + "'"
