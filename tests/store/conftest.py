from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfalign.store.store import Store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "store.duckdb"
    Store(path).create()
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    """A new store; copied, since making one costs more than most tests."""
    return Store(Path(shutil.copy(empty_store, tmp_path / "store.duckdb")))
