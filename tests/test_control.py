from __future__ import annotations

from pathlib import Path

import pytest

from selfalign import control
from selfalign.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "run")
    found.create()
    return found


def test_a_pause_holds_any_round_until_it_is_approved(workspace: Workspace) -> None:
    assert control.held(workspace, 0, needs_approval=False) is None
    control.pause(workspace)
    assert control.held(workspace, 0, needs_approval=False) == "paused"
    control.approve(workspace, None)
    assert control.held(workspace, 0, needs_approval=False) is None


def test_a_round_waits_for_the_one_before_it_to_be_approved(workspace: Workspace) -> None:
    assert control.held(workspace, 1, needs_approval=True) is None
    assert "round 1" in (control.held(workspace, 2, needs_approval=True) or "")
    control.approve(workspace, 1)
    assert control.held(workspace, 2, needs_approval=True) is None
    assert control.held(workspace, 3, needs_approval=True)
    control.pause(workspace)
    control.approve(workspace, None)
    assert control.read(workspace).approved_round == 1, "ending a pause takes no approval back"


def test_a_file_that_is_not_ours_asks_for_nothing(workspace: Workspace) -> None:
    (workspace.state / "control.json").write_text('{"paused": ')
    assert control.read(workspace) == control.Control()
