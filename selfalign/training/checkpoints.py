"""Durable folders: publishing weights atomically, disk checks, and a trainer's resumable states.

A resumable state is complete once its marker file is on disk; the marker names the training it
belongs to, so that a scratch folder used for something else is never continued from.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from selfalign.durable import sync as _fsync
from selfalign.durable import write_atomic
from selfalign.errors import DiskFull, ModelError, StageFailed
from selfalign.failpoints import reach
from selfalign.identity import hash_weights
from selfalign.space import disk_full, folder_bytes, free_bytes, is_disk_full, shown

_MARKER = "COMPLETE.json"
_PREFIX = "checkpoint-"


# -- making things durable ---------------------------------------------------------------------


def fsync_folder(folder: Path) -> None:
    """Flush every file and folder below ``folder``, then the entry in its parent, to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _fsync(Path(root) / name)
        _fsync(Path(root))
    _fsync(folder.parent)


def publish(source_tmp: Path, final: Path) -> None:
    """Make the folder ``source_tmp`` appear as ``final``, whole or not at all. Repeating it is harmless.

    Where ``final`` already has the same weights, the new copy is discarded. Where it has others, it
    is moved aside to ``<final>.replaced-<n>``, which stays: nothing is deleted here that something
    may still point at.
    """
    if not source_tmp.exists() and final.exists():
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    fsync_folder(source_tmp)
    reach("checkpoint_synced")
    if final.exists():
        if _same_weights(source_tmp, final):
            shutil.rmtree(source_tmp)
            return
        final.rename(_unused(final))
    source_tmp.rename(final)
    _fsync(final.parent)
    reach("checkpoint_renamed")
    if source_tmp.parent != final.parent:
        _fsync(source_tmp.parent)


def _same_weights(one: Path, other: Path) -> bool:
    try:
        return hash_weights(one) == hash_weights(other)
    except ModelError:
        return False


def _unused(final: Path) -> Path:
    number = 1
    while (path := final.with_name(f"{final.name}.replaced-{number}")).exists():
        number += 1
    return path


# -- disk space --------------------------------------------------------------------------------


def required_bytes(parent: Path, save_state: bool) -> int:
    """Estimate of what a full training writes: the new folder and, with ``save_state``, two trainer states.

    A state has float32 weights and Adam's two moments, and the old one goes only after the new one
    is complete. With an adapter the states are negligible: pass ``save_state=False``.
    """
    state = 3 * 4 * _parameters(parent) if save_state else 0
    return folder_bytes(parent) + 2 * state


def _parameters(folder: Path) -> int:
    """Number of stored weights, read from the safetensors headers."""
    return sum(prod(entry["shape"]) for _, entry in headers(folder))


def stored_dtype(folder: Path) -> str:
    """The safetensors name of the dtype most weights in ``folder`` have: "F32", "BF16" or "F16"."""
    counts: dict[str, int] = {}
    for _, entry in headers(folder):
        counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + prod(entry["shape"])
    return max(counts, key=lambda name: counts[name])


def headers(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and header entry (dtype, shape) of every tensor in ``folder``; no weights are read."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header: dict[str, Any] = json.loads(handle.read(length))
        yield from ((name, entry) for name, entry in header.items() if name != "__metadata__")


def check_disk(folder: Path, needed: int) -> None:
    """Raise DiskFull where the file system of ``folder`` (which need not exist yet) lacks ``needed`` bytes."""
    free = free_bytes(folder)
    if free < needed:
        raise DiskFull(
            f"{folder}: the disk is full: training needs {shown(needed)}, {shown(free)} are free; "
            "free some space (selfalign gc shows what can go), set train.save_every to none, or put the workspace elsewhere"
        )


@contextmanager
def out_of_space_is_clear(folder: Path, discard: Path) -> Iterator[None]:
    """Turn "disk full" inside the block into one line, after removing ``discard`` to free the space it took."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        full = disk_full(folder)  # as it was, before the space is given back
        shutil.rmtree(discard, ignore_errors=True)
        raise full from error


# -- resumable trainer states ------------------------------------------------------------------


def mark_complete(state: Path, fingerprint: str) -> None:
    """Flush ``state``, mark it complete, and only then delete the other states beside it."""
    fsync_folder(state)
    reach("state_saved")
    write_atomic(state / _MARKER, json.dumps({"fingerprint": fingerprint, "sizes": _sizes(state)}))
    reach("state_marked")
    for other in _states(state.parent):
        if other != state:
            shutil.rmtree(other)


def newest_complete(folder: Path, fingerprint: str) -> Path | None:
    """The newest complete state of this training in ``folder``; all others there are deleted."""
    best = max((s for s in _states(folder) if _belongs(s, fingerprint)), key=_step, default=None)
    for state in _states(folder):
        if state != best:
            shutil.rmtree(state)
    return best


def _states(folder: Path) -> list[Path]:
    return [p for p in folder.glob(_PREFIX + "*") if p.is_dir() and p.name.removeprefix(_PREFIX).isdigit()]


def _step(state: Path) -> int:
    return int(state.name.removeprefix(_PREFIX))


def _belongs(state: Path, fingerprint: str) -> bool:
    try:
        marker = json.loads((state / _MARKER).read_text(encoding="utf-8"))
        # A power cut can shorten a file that was renamed or flushed on a disk that lies.
        return bool(marker["fingerprint"] == fingerprint and marker["sizes"] == _sizes(state))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sizes(state: Path) -> dict[str, int]:
    return {
        str(path.relative_to(state)): path.stat().st_size
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.name != _MARKER
    }
