"""What a store has to offer: its tables and views, each with the line that its SQL file says about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from selfalign.store.schema import MIGRATIONS, SCHEMA, VIEWS
from selfalign.store.sql import read_sql

#: Comment lines that stand directly above what they are about.
_DEFINED = re.compile(r"((?:^--.*\n)+)CREATE (?:OR REPLACE )?(?:TABLE|VIEW) (\w+)", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=\.)\s")
_CONTENTS = """
SELECT table_name AS name, 'table' AS kind, estimated_size AS rows FROM duckdb_tables() WHERE NOT internal
UNION ALL
SELECT view_name AS name, 'view' AS kind, NULL AS rows FROM duckdb_views() WHERE NOT internal
ORDER BY kind, name
"""


def contents(path: Path) -> pa.Table:
    """Tables and views of the store at ``path``: name, kind, rows (NULL for views), about.

    Tables for rows that were set aside are left out while they are empty.

    Raises:
        StoreError: the store cannot be opened.
    """
    known = descriptions()
    rows = [
        {**row, "about": known.get(row["name"], "")}
        for row in read_sql(path, _CONTENTS).to_pylist()
        if row["rows"] or not row["name"].startswith("archived_")
    ]
    return pa.Table.from_pylist(
        rows, pa.schema({"name": "string", "kind": "string", "rows": "int64", "about": "string"})
    )


def descriptions() -> Mapping[str, str]:
    """First sentence of the comment above every table and view that this program defines."""
    found = {}
    for path in (SCHEMA, *sorted(MIGRATIONS.glob("*.sql")), *sorted(VIEWS.glob("*.sql"))):
        for comment, name in _DEFINED.findall(path.read_text(encoding="utf-8")):
            text = " ".join(line.removeprefix("--").strip() for line in comment.splitlines())
            found[name] = _SENTENCE_END.split(text, maxsplit=1)[0]
    return found
