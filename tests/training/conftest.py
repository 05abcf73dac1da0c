from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``tiny_model``, with other weights."""
    return make_tiny_model(tmp_path_factory.mktemp("other") / "model", seed=1)
