"""Named moments at which a test may end a process as ``kill -9`` would.

Every moment between writing something and its becoming durable has a name. ``SELFALIGN_FAIL_AT=name:3``
ends the process that reaches ``name`` for the third time; without such variables :func:`reach` costs two
look-ups. tests/e2e/test_kill.py goes through all of them.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "SELFALIGN_FAIL_AT"
#: A file to which every name is appended when it is reached: what was begun, and how often.
TRACE = "SELFALIGN_TRACE"

#: Every name there is, in the order in which a round reaches them.
NAMES = (
    "store_made",
    "run_recorded",
    "round_begun",
    "stage_started",
    "job_prepared",
    "batch_begun",
    "batch_written",
    "batch_renamed",
    "batch_inserted",
    "batch_committed",
    "batch_hidden",
    "stage_worked",
    "stage_finished",
    "state_saved",
    "state_marked",
    "weights_written",
    "manifest_written",
    "checkpoint_synced",
    "checkpoint_renamed",
    "round_recorded",
    "file_written",
    "branch_moved",
    "branch_made",
    "rows_taken",
    "round_ended",
)

_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Say that ``name`` is reached; does not return where the environment asks for the end here."""
    if trace := os.environ.get(TRACE):
        with open(trace, "a") as file:  # noqa: PTH123  # as cheap as it gets; one write a line, whole at any kill
            file.write(f"{name}\n")
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    target, _, number = wanted.partition(":")
    if target != name:
        return
    _reached[name] += 1
    if _reached[name] == int(number or 1):
        os.kill(os.getpid(), signal.SIGKILL)
