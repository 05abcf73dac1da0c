"""Re-checks a run: files against hashes, rows against one another, and the chain from prompt to checkpoint.

Reads only, each query through a connection of its own, so that a run that is writing goes on in between.
What a running round has not finished yet is not missed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign.checks.chain import chain
from selfalign.checks.content import digests, ids, uncovered
from selfalign.checks.findings import Finding, Query
from selfalign.checks.ledger import ledger
from selfalign.checks.references import references
from selfalign.checks.rules import rules
from selfalign.checks.weights import weights
from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.models.resolve import local_model
from selfalign.rounds import stages_of
from selfalign.store.store import Store
from selfalign.workspace import Workspace

_COUNTED = ("rounds", "prompts", "candidates", "judgements", "pairs", "unary_labels", "checkpoints")


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
    query: Query = store.query
    run = store.get_run()
    findings = [
        *(weights(query, workspace.path, _initial(run), hashes=hashes) if run else []),
        *chain(query),
        *references(query),
        *rules(query),
        *ledger(query, _expected_stages(query, run) if run else {}),
        *digests(query),
        *ids(query, run),
    ]
    counts = {table: int(query(f"SELECT count(*) AS n FROM {table}", ())["n"][0].as_py()) for table in _COUNTED}
    return Report(tuple(findings), counts, uncovered(query), hashes, time.monotonic() - started)


def _initial(run: Mapping[str, Any]) -> Any:
    return local_model(str(json.loads(run["config"]).get("model", "")))


def _expected_stages(query: Query, run: Mapping[str, Any]) -> dict[int, Sequence[str]]:
    """Stages of each round by the run's config; a round kept from another config says itself what it had."""
    try:
        config = validate_config(json.loads(run["config"]), "the run's config")
    except ConfigError:  # written by a version with other settings, or with a plug-in that is not installed here
        return {}
    own = query("SELECT round FROM rounds WHERE NOT coalesce(frozen, false)", ())["round"].to_pylist()
    return {round: stages_of(round, config) for round in own}
