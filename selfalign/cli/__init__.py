"""The ``selfalign`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: every intended error is one line and its own exit code."""
    from selfalign.cli.app import app
    from selfalign.errors import SelfAlignError

    try:
        app()
    except SelfAlignError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
