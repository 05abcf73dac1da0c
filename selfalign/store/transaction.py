"""One write transaction: rows in through Arrow, the ledger of stages, the run and its rounds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa

from selfalign.errors import StageFailed
from selfalign.store.arrow import from_table, to_table
from selfalign.store.connection import first_line
from selfalign.store.digests import DIGESTED, digest_sql
from selfalign.types import TABLES, Row

R = TypeVar("R")
Status = Literal["running", "done", "empty", "failed"]

#: Figures and notes are replaced when they are made again; every other row is immutable under its id.
_REPLACED = frozenset({"evaluations", "events"})
#: Big tables without an index (why: schema.sql); their ids are kept unique here.
_UNINDEXED: Mapping[str, str] = {"candidates": "candidate_id", "judgements": "judgement_id"}
_NOW = "(now() AT TIME ZONE 'UTC')"


@dataclass(frozen=True)
class StageRecord:
    """A line of the ledger. ``detail`` is JSON text; times are UTC."""

    round: int
    stage: str
    fingerprint: str
    status: Status
    attempt: int
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    rows_in: int | None
    rows_out: int | None
    detail: str | None


_STAGE_COLUMNS = ", ".join(field.name for field in fields(StageRecord))


class Transaction:
    """What ``with store.write() as tx`` gives; all of it is committed together, or none."""

    def __init__(self, connection: Any, path: Path) -> None:
        self.connection = connection
        self._path = path

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows, if any."""
        rows: list[tuple[Any, ...]] = self.connection.execute(sql, list(params)).fetchall()
        return rows

    def query(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result of a SELECT, this transaction's own rows included."""
        return query(self.connection, sql, params)

    def rows(self, kind: type[R], where: str = "", params: Sequence[Any] = ()) -> list[R]:
        return select_rows(self.connection, kind, where, params)

    def insert(self, rows: Sequence[Row]) -> int:
        """Add rows of any classes; returns how many were new.

        Raises:
            StageFailed: a row breaks a rule of the schema.
        """
        by_class: dict[type, list[Row]] = {}
        for row in rows:
            by_class.setdefault(type(row), []).append(row)
        return sum(self.insert_arrow(TABLES[kind], to_table(members, kind)) for kind, members in by_class.items())

    def insert_arrow(self, table_name: str, table: pa.Table) -> int:
        """Add an Arrow table whose columns are named as ``table_name``'s; returns how many rows were new.

        Raises:
            StageFailed: a row breaks a rule of the schema.
        """
        if table_name not in TABLES.values():
            raise ValueError(f"{table_name}: not a table of rows, known are {', '.join(TABLES.values())}")
        replaced = table_name in _REPLACED
        before = self._count(table_name) if replaced else 0
        self.connection.register("incoming_rows", table)
        try:
            written = self.execute(_insert_statement(table_name, table.column_names))[0][0]
        except duckdb.ConstraintException as error:
            raise StageFailed(f"{self._path}: a row for {table_name} was refused: {first_line(error)}") from None
        finally:
            with contextlib.suppress(duckdb.Error):  # refused in an aborted transaction, which ends the connection
                self.connection.unregister("incoming_rows")
        return self._count(table_name) - before if replaced else int(written)

    def upsert_stage(
        self,
        round: int,
        stage: str,
        fingerprint: str,
        *,
        status: Status,
        rows_in: int | None = None,
        rows_out: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the ledger: "running" opens a new attempt, every other status closes the present one."""
        key = [round, stage, fingerprint]
        if status == "running":
            self.execute(
                f"INSERT INTO stages (round, stage, fingerprint, status, attempt, started_at) "
                f"VALUES (?, ?, ?, 'running', 1, {_NOW}) "
                f"ON CONFLICT (round, stage, fingerprint) DO UPDATE SET status = 'running', "
                f"attempt = attempt + 1, started_at = {_NOW}, finished_at = NULL, detail = NULL",
                key,
            )
            return
        updated = self.execute(
            f"UPDATE stages SET status = ?, rows_in = ?, rows_out = ?, detail = ?, finished_at = {_NOW}, "
            f"seconds = coalesce(seconds, 0) + date_diff('millisecond', started_at, {_NOW}) / 1000 "
            f"WHERE round = ? AND stage = ? AND fingerprint = ?",
            [status, rows_in, rows_out, _json(detail), *key],
        )
        if updated[0][0] == 0:
            raise ValueError(f"round {round} {stage}: was never started with fingerprint {fingerprint}")

    def put_round(
        self,
        round: int,
        *,
        parent_hash: str | None = None,
        weights_hash: str | None = None,
        tokenizer_hash: str | None = None,
        trainer: str | None = None,
        reference_hash: str | None = None,
        start_hash: str | None = None,
        policy: Mapping[str, Any] | None = None,
        status: Status | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Create or update a round; None leaves what is there."""
        self.execute(
            f"INSERT INTO rounds (round, parent_hash, weights_hash, tokenizer_hash, trainer, reference_hash, start_hash, "
            f"policy, status, detail, started_at, finished_at) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {_NOW}, CASE WHEN ? <> 'running' THEN {_NOW} END) "
            f"ON CONFLICT (round) DO UPDATE SET "
            f"parent_hash = coalesce(excluded.parent_hash, parent_hash), "
            f"weights_hash = coalesce(excluded.weights_hash, weights_hash), "
            f"tokenizer_hash = coalesce(excluded.tokenizer_hash, tokenizer_hash), "
            f"trainer = coalesce(excluded.trainer, trainer), "
            f"reference_hash = coalesce(excluded.reference_hash, reference_hash), "
            f"start_hash = coalesce(excluded.start_hash, start_hash), "
            f"policy = coalesce(excluded.policy, policy), "
            f"detail = coalesce(excluded.detail, detail), "
            f"finished_at = CASE WHEN excluded.status IS NULL THEN finished_at ELSE excluded.finished_at END, "
            f"status = coalesce(excluded.status, status)",
            [
                round,
                parent_hash,
                weights_hash,
                tokenizer_hash,
                trainer,
                reference_hash,
                start_hash,
                _json(policy),
                status,
                _json(detail),
                status,
            ],
        )

    def put_run(self, run: str, *, seed: int, config: str, config_hash: str, environment: str, version: str) -> None:
        """Record the run this store belongs to; a second call changes nothing."""
        self.execute(
            "INSERT INTO runs (run, seed, config, config_hash, environment, version) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            [run, seed, config, config_hash, environment, version],
        )

    def _count(self, table_name: str) -> int:
        return int(self.execute(f"SELECT count(*) FROM {table_name}")[0][0])


def _insert_statement(table_name: str, columns: Sequence[str]) -> str:
    if table_name in _REPLACED:
        return f"INSERT OR REPLACE INTO {table_name} BY NAME SELECT * FROM incoming_rows"
    # Rows copied from another store bring the digest they were written with.
    digested = table_name in DIGESTED and "digest" not in columns
    wanted = f"*, {digest_sql(table_name, columns)} AS digest" if digested else "*"
    if identity := _UNINDEXED.get(table_name):
        return (
            f"INSERT INTO {table_name} BY NAME SELECT {wanted} FROM (SELECT DISTINCT ON ({identity}) * "
            f"FROM incoming_rows ANTI JOIN {table_name} USING ({identity}))"
        )
    return f"INSERT INTO {table_name} BY NAME SELECT {wanted} FROM incoming_rows ON CONFLICT DO NOTHING"


def query(connection: Any, sql: str, params: Sequence[Any] = ()) -> pa.Table:
    """A SELECT's whole result in memory."""
    relation = connection.sql(sql, params=list(params)) if params else connection.sql(sql)
    if relation is None:
        raise ValueError(f"not a SELECT: {sql}")
    return relation.to_arrow_table()


def select_rows(connection: Any, kind: type[R], where: str, params: Sequence[Any]) -> list[R]:
    """Instances of a row class in the order of the table's key, so that a resumed run sees the same order."""
    names = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
    condition = f"WHERE {where}" if where else ""
    table = query(connection, f"SELECT {names} FROM {TABLES[kind]} {condition} ORDER BY {_KEYS[TABLES[kind]]}", params)
    return from_table(kind, table)


def select_stage(connection: Any, round: int, stage: str) -> StageRecord | None:
    """The attempt that was started last, whatever its fingerprint."""
    found = connection.execute(
        f"SELECT {_STAGE_COLUMNS} FROM stages WHERE round = ? AND stage = ? ORDER BY started_at DESC LIMIT 1",
        [round, stage],
    ).fetchall()
    return StageRecord(*found[0]) if found else None


#: Sort keys of :func:`select_rows`; tables are unordered.
_KEYS: Mapping[str, str] = {
    "prompts": "round, prompt_id, split",
    "candidates": "round, prompt_id, sample_idx, candidate_id",
    "judgements": "round, candidate_id, judge, sample_idx, judgement_id",
    "gold_judgements": "round, split, gold_key, candidate_id, judge, sample_idx, judgement_id",
    "selections": "round, prompt_id, accept_order, selection_id",
    "pairs": "round, prompt_id, pair_id",
    "unary_labels": "round, prompt_id, label_id",
    "rankings": "round, prompt_id, ranking_id",
    "lessons": "round, kind, source, subject_id, lesson_id",
    "meta_judgements": "round, candidate_id, judge, first_id, second_id, meta_id",
    "judgement_pairs": "round, candidate_id, judge, pair_id",
    "replays": "round, from_round, kind, example_id",
    "reviews": "reviewed_at, review_id",
    "overrides": "round, from_round, pair_id, override_id",
    "checkpoints": "round, created_at, checkpoint_id",
    "evaluations": "run, round, metric, split",
    "events": "round, stage, kind, subject_id, event_id",
}


def _json(detail: Mapping[str, Any] | None) -> str | None:
    return None if detail is None else json.dumps(detail, ensure_ascii=False, sort_keys=True, default=str)
