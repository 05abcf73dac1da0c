"""Kills at random moments; ``make torture KILLS=200`` does the same at length."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.torture import torture


def test_random_kills_leave_no_trace(tmp_path: Path, tiny_model: Path, prefect_api: str) -> None:
    torture(tmp_path, tiny_model, prefect_api, kills=5, seed=1)
