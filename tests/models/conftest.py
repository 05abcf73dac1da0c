from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.errors import ModelError
from selfalign.models.embedded import fetch


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of the embedded model in the user's own cache; skips where it cannot be had."""
    try:
        return fetch(progress=False)
    except ModelError as error:
        pytest.skip(f"embedded model: {error}")
