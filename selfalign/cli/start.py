"""Commands that work on a run: ``run``."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from rich.console import Console

from selfalign.cli.options import ConfigArgument, JsonOption, SetOption
from selfalign.config import RunConfig, load_config
from selfalign.workspace import Workspace


def run(config: ConfigArgument, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Start the run, or go on where it stopped: the same command for both.

    Example: [cyan]selfalign run flows/quickstart.yaml[/cyan]
    """
    start(load_config(config, set_), config, as_json=json_)


def start(settings: RunConfig, origin: Path, *, as_json: bool) -> None:
    """Bring a run to its last round, with progress on stderr and its rounds on stdout."""
    from flows.server import patience_s, prefect_for
    from selfalign.cli.show import print_run
    from selfalign.progress import ConsoleReporter
    from selfalign.session import session

    signal.signal(signal.SIGTERM, _terminate)
    reporter, patience = ConsoleReporter(), patience_s()
    try:
        with session(settings, reporter, prefect_for) as context:
            from flows.align import run_rounds

            run_rounds(context, patience_s=patience)
    finally:
        reporter.close()
    print_run(Workspace(settings.workspace_path()), origin, Console(highlight=False), as_json=as_json)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
