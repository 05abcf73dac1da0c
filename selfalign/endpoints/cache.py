"""Replies on disk, one file a request, named by the request's content: a resumed stage asks nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfalign.durable import write_atomic


class ReplyCache:
    """``folder``/ab/ab...json. A file that is damaged counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        reply = found.get("reply") if isinstance(found, dict) else None
        return reply if isinstance(reply, dict) else None

    def put(self, key: str, request: dict[str, Any], reply: dict[str, Any]) -> None:
        """The request is kept beside its reply for people to read; credentials are no part of it."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"request": request, "reply": reply}))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
