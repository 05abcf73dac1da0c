"""What a start refuses before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.config import validate_config
from selfalign.errors import ConfigError, ModelError
from selfalign.preflight import check
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.workspace import Workspace


@pytest.mark.parametrize("teach", [{}, {"rounds": [1]}], ids=["", "taught"])
def test_thresholds_are_held_against_the_runs_own_judge(teach: dict[str, list[int]], tmp_path: Path) -> None:
    """Also where round 1 teaches, and what a program can check (scores of 0 and 1) stands in for it there."""

    def refusal(threshold: float) -> Exception:
        pair = {"id": "anchored", "chosen_at_least": threshold}
        data = {"name": "x", "judge": "rubric_logits", "pair": pair, "teach": teach, "model": "./none"}
        context = RunContext(validate_config(data, "test"), Workspace(tmp_path), Store(tmp_path / "s.duckdb"), Silent())
        with pytest.raises((ConfigError, ModelError)) as error:
            check(context)
        return error.value

    assert isinstance(refusal(4), ModelError), "nothing was found before the model, which is not there"
    assert str(refusal(6)) == (
        "pair.chosen_at_least 6 is outside the scores of judge 'rubric_logits', 0 to 5; set it to one of these"
    )
