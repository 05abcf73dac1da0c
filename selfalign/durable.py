"""What is written survives: a kill leaves the old file or the new one, a power cut what was synced."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from selfalign.failpoints import reach


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; at the end of the block it is flushed and takes the place of ``path``, or is gone."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        reach("file_written")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write aside, flush, rename: a reader sees the old file or the new one, never half of one."""
    with replacing(path) as handle:
        handle.write(text.encode("utf-8"))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where there is no file, or nothing readable in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
