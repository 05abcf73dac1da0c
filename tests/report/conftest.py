from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.report.figures import RunFigures
from selfalign.report.reading import read_runs
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.report.made import make_workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "store.duckdb"
    Store(path).create()
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Workspace:
    """A run of three rounds of pairs; treat it as read-only."""
    return make_workspace(tmp_path_factory.mktemp("made"), empty_store)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Workspace:
    """Another one, of five rounds."""
    return make_workspace(tmp_path_factory.mktemp("made"), empty_store, "other", rounds=5, better=0.01)


@pytest.fixture(scope="session")
def figures(made: Workspace) -> RunFigures:
    return read_runs([made], examples=4)[0]
