"""What a start found out of prompts by a model, kept for the next one: in the workspace, and for this user's other runs."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from selfalign.durable import read_object, write_atomic
from selfalign.user_cache import cache_root, keep_newest
from selfalign.workspace import Workspace

_NAME = "preflight"
#: Files of other runs that are kept, a few hundred bytes each; the oldest go first.
_MOST = 100


def recall(workspace: Workspace, question: str) -> dict[str, Any] | None:
    """What :func:`remember` kept under ``question``, in ``workspace`` or for all runs; None where there is nothing."""
    for found in (workspace.recall(_NAME), read_object(_folder() / f"{question}.json")):
        if found.get("question") == question:
            return found
    return None


def remember(workspace: Workspace, question: str, found: dict[str, Any]) -> None:
    """Keep ``found``, which ``question`` (hexadecimal, of everything that it depends on) stands for.

    A folder that cannot be written, or is full, is no reason to stop: it can be found out again.
    """
    known = {**found, "question": question}
    workspace.remember(_NAME, known)
    with contextlib.suppress(OSError):
        _folder().mkdir(parents=True, exist_ok=True)
        write_atomic(_folder() / f"{question}.json", json.dumps(known))
        files = [file for file in _folder().iterdir() if re.fullmatch(r"[0-9a-f]+\.json", file.name)]
        keep_newest(files, _MOST)


def _folder() -> Path:
    return cache_root() / _NAME
