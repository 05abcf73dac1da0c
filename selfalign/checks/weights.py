"""Every checkpoint's folder is there and holds the weights and the tokenizer that the store says."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from selfalign.checks.findings import Finding, Query, place
from selfalign.disk import kept
from selfalign.errors import ModelError
from selfalign.identity import content_id, hash_tokenizer, hash_weights
from selfalign.training import average
from selfalign.workspace import MANIFEST

#: What the manifest and the row must agree in. The folder may have been moved or made smaller since.
_SAME = (
    "checkpoint_id", "round", "parent_id", "weights_hash", "trainer", "method", "reference_hash", "n_examples",
    "config", "metrics",
)  # fmt: skip


def weights(query: Query, workspace: Path, initial: Path | None, *, hashes: bool) -> list[Finding]:
    """Damage to folders. Relative paths start at ``workspace``; ``initial`` is M_0's folder, None if it is gone.

    Without ``hashes`` no weights are read: folders and manifests only.
    """
    found = _initial(query, initial, hashes)
    # The same folder may be a round's and, from before, a branch's: it is read once.
    contents = cache(_contents)
    for table in ("checkpoints", "archived_checkpoints"):
        branch = "NULL" if table == "checkpoints" else "k.branch"
        tokenizer = "r.tokenizer_hash" if table == "checkpoints" else "NULL"
        rows = query(
            f"SELECT k.*, {branch} AS of_branch, {tokenizer} AS tokenizer_hash FROM {table} k "
            f"LEFT JOIN rounds r ON r.round = k.round AND r.weights_hash = k.weights_hash ORDER BY k.round, checkpoint_id",
            (),
        ).to_pylist()
        for row in rows:
            found += _checkpoint(table, row, workspace / row["path"], contents if hashes else None)
    return found


def _initial(query: Query, folder: Path | None, hashes: bool) -> list[Finding]:
    rows = query("SELECT weights_hash, tokenizer_hash FROM rounds WHERE round = 0", ()).to_pylist()
    if not rows or rows[0]["weights_hash"] is None:
        return []
    where = "round 0, M0"
    if folder is None:
        return [Finding("no_folder", "rounds", "0", where, "the initial model is gone", _PUT_BACK)]
    if not hashes:
        return []
    made, tokenizer, error = _contents(folder)
    if error is not None:
        return [Finding("weights", "rounds", "0", where, error, _PUT_BACK)]
    found = []
    if made != rows[0]["weights_hash"]:
        what = f"{folder}: has weights {made}, the run began with {rows[0]['weights_hash']}"
        found.append(Finding("weights", "rounds", "0", where, what, _PUT_BACK))
    if rows[0]["tokenizer_hash"] not in (None, tokenizer):
        what = f"{folder}: the tokenizer's files are not those the run began with"
        found.append(Finding("tokenizer", "rounds", "0", where, what, _PUT_BACK))
    return found


def _checkpoint(
    table: str, row: dict[str, Any], folder: Path, contents: Callable[[Path], tuple[str, str, str | None]] | None
) -> list[Finding]:
    identity, where = row["checkpoint_id"], place(row["round"], f"M{row['round']}")
    if row["of_branch"] is not None:
        where = f"branch {row['of_branch']}, {where}"
    if not folder.is_dir():
        return [Finding("no_folder", table, identity, where, f"{folder} is gone", _put_back(row))]
    found = []
    if problem := _manifest_problem(folder, row):
        found.append(Finding("manifest", table, identity, where, f"{folder / MANIFEST} {problem}", _put_back(row)))
    if contents is None:
        return found
    expected = row["weights_hash"]
    reduced = kept.read(folder)
    if reduced is not None:
        # Reduced on purpose, and the record says so; only weights that were restored approximately can be read.
        if reduced.weights_hash != expected:
            what = f"{folder / kept.RECORD} is about weights {reduced.weights_hash}, not {expected}"
            found.append(Finding("manifest", table, identity, where, what, _put_back(row)))
        if reduced.form != "approximate":
            return found
        expected = reduced.restored_hash
    made, tokenizer, error = contents(folder)
    if error is not None:
        return [*found, Finding("weights", table, identity, where, error, _put_back(row))]
    if made != expected:
        what = f"{folder}: has weights {made}, not {expected}"
        found.append(Finding("weights", table, identity, where, what, _put_back(row)))
    # The id is that of round, weights and tokenizer; older stores have no hash of the tokenizer beside it.
    elif row["tokenizer_hash"] not in (None, tokenizer) or identity != content_id(
        "checkpoint", row["round"], row["weights_hash"], tokenizer
    ):
        what = f"{folder}: the tokenizer's files are not those that were published with the weights"
        found.append(Finding("tokenizer", table, identity, where, what, _put_back(row)))
    return found


def averages(query: Query, references: Path, *, hashes: bool) -> list[Finding]:
    """Averages that rounds were compared with, where they still lie in ``references``: what they are of, and their weights.

    One that is gone is no damage: it is made again where it is needed.
    """
    rows = query(
        "SELECT round, weights_hash, reference_hash, json_extract(policy, '$.reference.ema')::DOUBLE AS ema FROM rounds "
        "ORDER BY round",
        (),
    ).to_pylist()
    models = [row["weights_hash"] for row in rows]
    found = []
    for row in rows:
        if row["ema"] is None or row["round"] < 2 or None in models[: row["round"]]:
            continue
        folder = references / average.folder_name(row["round"], row["ema"], models[: row["round"]])
        if not folder.is_dir():
            continue
        manifest = average.read_manifest(folder)
        what = None
        if manifest is None or manifest.weights_hash != row["reference_hash"]:
            what = f"{folder / average.MANIFEST} is not about the reference that the round has, {row['reference_hash']}"
        elif hashes:
            made, _, error = _contents(folder)
            what = error or (
                f"{folder}: has weights {made}, not {manifest.weights_hash}" if made != manifest.weights_hash else None
            )
        if what is not None:
            where = place(row["round"], "its reference")
            found.append(
                Finding("reference", "rounds", str(row["round"]), where, what, f"remove {folder}: it is made again")
            )
    return found


def _contents(folder: Path) -> tuple[str, str, str | None]:
    """Hash of the weights, hash of the tokenizer, and what stopped the reading."""
    try:
        return hash_weights(folder), hash_tokenizer(folder), None
    except (ModelError, OSError, KeyError, TypeError, ValueError) as error:
        return "", "", str(error)


def _manifest_problem(folder: Path, row: dict[str, Any]) -> str | None:
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["checkpoint"]
        wrong = [name for name in _SAME if record.get(name) != row[name]]
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "cannot be read"
    return f"disagrees with the store in {', '.join(wrong)}" if wrong else None


_PUT_BACK = "put the original files back"


def _put_back(row: dict[str, Any]) -> str:
    if row["of_branch"] is not None:
        return f"{_PUT_BACK}; without them the branch cannot be taken up again"
    return f"{_PUT_BACK}, or train the round again: selfalign resume RUN --from-round {row['round'] - 1}"
