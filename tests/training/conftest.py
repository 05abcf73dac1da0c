from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="session", autouse=True)
def _collect_quickly() -> Iterator[None]:
    """Every training collects garbage several times; going through the libraries' objects is most of its time here."""
    import selfalign.training.pairwise_run  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``tiny_model``, with other weights."""
    return make_tiny_model(tmp_path_factory.mktemp("other") / "model", seed=1)
