from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import warm
from tests.tiny_model import make_tiny_model


def pytest_collection_finish() -> None:
    """What collecting the tests imported stays; trainers and engines, which collect garbage often, pass it by."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is still frozen as Python ends is reported as leaked by DuckDB's bindings


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random model (see tiny_model.py); treat it as read-only."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def warm_preloader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of ``Project`` take the process that forks their stages from one that has the libraries (e2e/warm.py)."""
    with warm.running(tmp_path_factory.mktemp("warm") / "socket") as place:
        os.environ[warm.VARIABLE] = place
        yield
        del os.environ[warm.VARIABLE]
