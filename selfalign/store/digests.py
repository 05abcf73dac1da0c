"""A digest of each row's content, computed by DuckDB when the row is written and again when it is verified.

Both sides are the same SQL, so nothing is fetched to be hashed. The text that is hashed must not depend on
DuckDB's version or on the number types of a batch: a JSON object of the columns that are never NULL, in order
of name, doubles as their 64 bits; then a JSON member for each other column that is not NULL. A column that a
later migration adds is NULL in older rows, and does not change their digests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from selfalign.store.arrow import arrow_schema
from selfalign.types import TABLES

#: Tables whose rows have a digest, and their id. Figures and events are replaced when they are made again.
DIGESTED: Mapping[str, str] = {
    "prompts": "prompt_id",
    "candidates": "candidate_id",
    "judgements": "judgement_id",
    "gold_judgements": "judgement_id",
    "selections": "selection_id",
    "pairs": "pair_id",
    "unary_labels": "label_id",
    "rankings": "ranking_id",
    "lessons": "lesson_id",
    "meta_judgements": "meta_id",
    "judgement_pairs": "pair_id",
    "replays": "replay_id",
    "reviews": "review_id",
    "overrides": "override_id",
    "checkpoints": "checkpoint_id",
}
#: What people said of pairs belongs to no stage, so that no branch takes it away: there is no archived_reviews.
NEVER_ARCHIVED = frozenset({"reviews"})
#: Where a checkpoint lies, and in how many bytes, may change: it can be moved, and kept in a smaller form.
_NOT_IDENTITY = frozenset({("checkpoints", "path"), ("checkpoints", "n_bytes")})
_SCHEMAS: Mapping[str, pa.Schema] = {TABLES[kind]: arrow_schema(kind) for kind in TABLES}


def digest_sql(table_name: str, columns: Collection[str] | None = None) -> str:
    """SQL expression for the digest of a row of ``table_name``; columns that are not in ``columns`` count as NULL."""
    fields = sorted(
        (
            field
            for field in _SCHEMAS[table_name]
            if (columns is None or field.name in columns) and (table_name, field.name) not in _NOT_IDENTITY
        ),
        key=lambda field: str(field.name),
    )
    members = ", ".join(f"'{field.name}': {_exact(field)}" for field in fields if not field.nullable)
    # concat takes NULL for nothing.
    optional = "".join(
        f", CASE WHEN {field.name} IS NOT NULL THEN ',\"{field.name}\":' || to_json({_exact(field)}) END"
        for field in fields
        if field.nullable
    )
    return f"substr(sha256(concat(to_json({{{members}}}){optional})), 1, 32)"


def _exact(field: pa.Field) -> str:
    # DuckDB's decimal digits of a double are a choice of its version; its bits are not.
    return f"hex({field.name}::DOUBLE::BIT::BLOB)" if pa.types.is_floating(field.type) else str(field.name)
