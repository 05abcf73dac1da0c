"""What people ask of a run while it works: pause, approve. A small file in the workspace, no server.

Writers replace the file whole; the run reads it between stages.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from selfalign.durable import write_atomic
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Control:
    """``approved_round``: rounds up to this one have been looked at and may be followed by the next."""

    paused: bool = False
    approved_round: int = -1


def read(workspace: Workspace) -> Control:
    """What was asked last; nothing where there is no file, or one that is not ours."""
    try:
        found = json.loads((workspace.state / "control.json").read_text(encoding="utf-8"))
        return Control(bool(found["paused"]), int(found["approved_round"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Control()


def pause(workspace: Workspace) -> None:
    """Ask for a halt at the next stage boundary."""
    _write(workspace, Control(True, read(workspace).approved_round))


def approve(workspace: Workspace, done: int | None) -> None:
    """End a pause, and approve what has been made up to round ``done``."""
    _write(workspace, Control(False, max(read(workspace).approved_round, -1 if done is None else done)))


def _write(workspace: Workspace, control: Control) -> None:
    write_atomic(workspace.state / "control.json", json.dumps(asdict(control)))


def held(workspace: Workspace, round: int, *, needs_approval: bool, asked: str | None = None) -> str | None:
    """Why ``round`` may not go on now, for people; None if it may. ``asked``: why the round before asks for approval."""
    control = read(workspace)
    if control.paused:
        return "paused"
    # M_0 is only measured, so round 1 needs nobody's word unless something was found wrong.
    if (asked or (needs_approval and round > 1)) and control.approved_round < round - 1:
        return f"round {round - 1} waits for approval" + (f": {asked}" if asked else "")
    return None
