"""The ``selfalign`` command."""

from __future__ import annotations

import sys


def _keep_traceback() -> str:
    """Write the present exception's traceback to a file of its own; returns where."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="selfalign-", suffix=".log", delete=False) as log:
        traceback.print_exc(file=log)
    return log.name


def main() -> None:
    """Entry point: every intended error is one line and its own exit code."""
    from selfalign.cli.app import app
    from selfalign.errors import SelfAlignError

    try:
        app()
    except SelfAlignError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        log = _keep_traceback()
        print(f"error: {type(error).__name__}: {error} (not expected; the traceback is in {log})", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
