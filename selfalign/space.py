"""Room on disk: how much is free, and telling a full disk from every other failure."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign.errors import DiskFull, SelfAlignError

#: What a stage process exits with when it could not even write down that the disk is full.
EXIT_DISK_FULL = errno.ENOSPC
#: With less than this, whatever failed without a reason of its own failed for want of room (SQLite, for one,
#: answers its clients with a bare server error).
_AS_GOOD_AS_FULL = 1 << 20
#: How torch, safetensors, DuckDB and SQLite word it: none of them raises OSError.
_NO_SPACE = (
    "No space left", "os error 28", "Disk quota exceeded", "database or disk is full",
    "PytorchStreamWriter failed", "unexpected pos", "file write failed",
)  # fmt: skip


def nearest_existing(path: Path) -> Path:
    """``path``, or the closest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Bytes free to this user on the file system of ``path``, which need not exist yet."""
    return shutil.disk_usage(nearest_existing(path)).free


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below ``folder`` (of the file itself, if it is one); 0 where there is nothing."""
    if folder.is_file():
        return folder.stat().st_size
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118 (twice as fast)
            except OSError:  # removed meanwhile
                continue
    return total


def shown(n_bytes: float) -> str:
    """A size for people, in decimal units: "538 MB"."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            value = n_bytes / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from, is a full disk or quota."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFull) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(sign in str(error) for sign in _NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(path: Path) -> DiskFull:
    """The error for a write at ``path`` that found no room."""
    where = nearest_existing(path)
    try:
        usage = shutil.disk_usage(where)
        room = f"{shown(usage.free)} of {shown(usage.total)} free"
    except OSError:
        room = "free space unknown"
    return DiskFull(
        f"{path}: the disk is full ({room}); nothing that was finished is lost: free some space (selfalign gc shows "
        f"what can go), then run the same command again"
    )


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn "disk full" inside the block into one :class:`DiskFull`, whichever library noticed it and however.

    An error that is not one of ours and comes while ``folder``'s disk has next to nothing free counts as such.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        ours = isinstance(error, SelfAlignError)
        if is_disk_full(error) or (not ours and free_bytes(folder) < _AS_GOOD_AS_FULL):
            raise disk_full(_where(error) or folder) from error
        raise


def _where(error: BaseException) -> Path | None:
    name = getattr(error, "filename", None)
    return Path(name) if isinstance(name, str) else None
