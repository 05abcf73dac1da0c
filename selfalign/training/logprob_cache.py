"""Log-probabilities on disk: small files by content, bounded together; any of them may go at any time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfalign.durable import write_atomic
from selfalign.identity import content_id
from selfalign.types import TokenSequence

#: The files of a folder together: about three million values.
MAX_BYTES = 64 << 20


def key(weights_hash: str, sequences: Sequence[TokenSequence], form: Mapping[str, Any] | None = None) -> str:
    """Of the weights' content and the token ids, so that no other model's values can be mistaken for these.

    ``form`` says how the weights are loaded, where that is not as they are written.
    """
    tokens = [[list(s.prompt_ids), list(s.completion_ids)] for s in sequences]
    return content_id("logprobs", weights_hash, tokens, *([dict(form)] if form else []))


def read(folder: Path, key: str, length: int) -> list[float] | None:
    """The ``length`` values kept under ``key``; None where there are none, or where a power cut left half of them."""
    path = _path(folder, key)
    try:
        values = [float(value) for value in json.loads(path.read_text(encoding="utf-8"))["log_probs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(values) != length:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the least recently used go first
    return values


def write(folder: Path, key: str, values: Sequence[float], max_bytes: int = MAX_BYTES) -> None:
    """Keep ``values``, and drop the files least recently used until the folder has at most ``max_bytes``.

    What was just written stays, whatever its size. A full disk is no reason to stop: it can be computed again.
    """
    path = _path(folder, key)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"log_probs": list(values)}))  # JSON keeps every bit of a float
        _prune(folder, path, max_bytes)


def _prune(folder: Path, newest: Path, max_bytes: int) -> None:
    # One process writes at a time, so a file that is still aside was left by a kill.
    for aside in folder.glob(".logprobs-*"):
        aside.unlink()
    others = sorted((f for f in folder.glob("logprobs-*.json") if f != newest), key=lambda f: f.stat().st_mtime_ns)
    total = newest.stat().st_size + sum(f.stat().st_size for f in others)
    for file in others:
        if total <= max_bytes:
            return
        total -= file.stat().st_size
        file.unlink()


def _path(folder: Path, key: str) -> Path:
    return folder / f"logprobs-{key}.json"
