"""Embedded Prefect: its data inside the workspace, quiet, and no calls outside."""

from __future__ import annotations

import os
from pathlib import Path


def embed_prefect(home: Path) -> None:
    """Point Prefect at ``home``. Call before Prefect is imported; what the user has set already wins.

    With PREFECT_API_URL set, the flow reports to that server instead of starting one of its own.
    """
    defaults = {
        "PREFECT_HOME": str(home.resolve()),
        # 3.7 keeps the memo store in the user's home folder unless told so by name.
        "PREFECT_SERVER_MEMO_STORE_PATH": str(home.resolve() / "memo_store.toml"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home.resolve() / "storage"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # A loaded two-core machine needs about 20 s to bring the server up; the default gives up at 20.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
