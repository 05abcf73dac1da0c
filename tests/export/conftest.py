from __future__ import annotations

import pytest

from selfalign.workspace import Workspace
from tests.export.made import make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run with rows of every kind; treat it as read-only."""
    return make_run(tmp_path_factory.mktemp("export") / "made")
