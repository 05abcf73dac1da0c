"""Where this user keeps what runs share: the embedded model, replies of judges elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path


def cache_root() -> Path:
    """$SELFALIGN_CACHE, or ``selfalign`` in the user's cache folder."""
    if given := os.environ.get("SELFALIGN_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin" and not os.environ.get("XDG_CACHE_HOME"):
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "selfalign"


def keep_newest(files: Iterable[Path], most: int) -> None:
    """Remove all of ``files`` but the ``most`` written last.

    Raises:
        OSError: one of them cannot be looked at or removed.
    """
    for old in sorted(files, key=lambda file: file.stat().st_mtime_ns)[:-most]:
        old.unlink()
