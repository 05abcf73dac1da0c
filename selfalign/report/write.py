"""From workspaces to a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from selfalign.durable import write_atomic
from selfalign.errors import BadInput
from selfalign.report.figures import RunFigures
from selfalign.report.page import render
from selfalign.report.reading import read_runs
from selfalign.workspace import Workspace

#: Pairs (labels, rankings) to read, a round.
EXAMPLES = 4


def write_report(workspaces: Sequence[Workspace], output: Path, examples: int = EXAMPLES) -> int:
    """Write the report of one run, or of several, whole or not at all; returns its size in bytes.

    Raises:
        StoreError: a store cannot be opened.
        BadInput: ``output`` cannot be written, or reading would hold up a run that is at work.
    """
    text = render(read_runs(workspaces, examples))
    try:
        write_atomic(output, text)
    except OSError as error:
        raise BadInput(
            f"{output}: cannot be written: {error.strerror or error}; name another file with --output"
        ) from None
    return output.stat().st_size


def report_json(runs: Sequence[RunFigures]) -> str:
    """The data behind a report, one object a run."""
    return json.dumps([asdict(run) for run in runs], ensure_ascii=False, default=str)
