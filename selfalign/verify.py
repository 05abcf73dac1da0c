"""Re-checks a run: files against hashes, rows against one another, and the chain from prompt to checkpoint.

Reads only, over connections that are given back after a moment, so that a run that is writing goes on in
between. What a running round has not finished yet is not missed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.checks.chain import chain
from selfalign.checks.content import digests, ids
from selfalign.checks.findings import Finding, Query
from selfalign.checks.ledger import ledger
from selfalign.checks.references import references
from selfalign.checks.rules import rules
from selfalign.checks.weights import averages, weights
from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.models.resolve import local_model
from selfalign.rounds import stages_of
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Longest that queries share a connection; a writer waits no longer than for this and one query.
_HOLD_S = 0.2
_COUNTED = ("rounds", "prompts", "candidates", "judgements", "pairs", "unary_labels", "rankings", "checkpoints")


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found; ``uncovered`` are rows, by table, whose content nothing vouches for."""

    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    uncovered: Mapping[str, int]
    weights_hashed: bool
    seconds: float


def verify(workspace: Workspace, *, hashes: bool = True) -> Report:
    """Every check; without ``hashes`` the weights are not read.

    Raises:
        StoreError: the store cannot be read: there is nothing to check row by row.
    """
    started = time.monotonic()
    store = Store(workspace.store_path)
    run = store.get_run()
    # Not over a shared connection: reading files takes long, and nobody may write meanwhile.
    files = weights(store.query, workspace.path, _initial(run), hashes=hashes) if run else []
    files += averages(store.query, workspace.references, hashes=hashes)
    with _short_reads(store) as query:
        changed, uncovered = digests(query)
        findings = [
            *files,
            *chain(query),
            *references(query),
            *rules(query),
            *ledger(query, _expected_stages(query, run) if run else {}),
            *changed,
            *ids(query, run),
        ]
        counted = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in _COUNTED)
        counts = query(f"SELECT {counted}", ()).to_pylist()[0]
    return Report(tuple(findings), counts, uncovered, hashes, time.monotonic() - started)


@contextlib.contextmanager
def _short_reads(store: Store) -> Iterator[Query]:
    """Queries that share a connection for a moment: opening one takes longer than most of them do."""
    held = contextlib.ExitStack()
    connection: Any = None
    opened = 0.0

    def query(sql: str, params: Sequence[Any]) -> pa.Table:
        nonlocal connection, opened
        if connection is None:
            connection, opened = held.enter_context(store.read()), time.monotonic()
        relation = connection.sql(sql, params=list(params)) if params else connection.sql(sql)
        table = relation.to_arrow_table()
        if time.monotonic() - opened > _HOLD_S:
            held.close()
            connection = None
        return table

    with held:
        yield query


def _initial(run: Mapping[str, Any]) -> Path | None:
    return local_model(str(json.loads(run["config"]).get("model", "")))


def _expected_stages(query: Query, run: Mapping[str, Any]) -> dict[int, Sequence[str]]:
    """Stages of each round by the run's config; a round kept from another config says itself what it had."""
    try:
        # A version that knew neither made no such stages.
        older = {"gates": [], "calibrate": {"enabled": "never"}}
        config = validate_config({**older, **json.loads(run["config"])}, "the run's config")
    except ConfigError:  # written by a version with other settings, or with a plug-in that is not installed here
        return {}
    own = query("SELECT round FROM rounds WHERE NOT coalesce(frozen, false)", ())["round"].to_pylist()
    return {round: stages_of(round, config) for round in own}
