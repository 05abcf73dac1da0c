"""The embedded 135M model through one small round: real answers, real judging, real training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selfalign.errors import ModelError
from selfalign.models.embedded import fetch
from tests.e2e.project import Project


@pytest.mark.embedded
def test_a_round_of_the_embedded_model(tmp_path: Path, prefect_api: str) -> None:
    try:
        fetch(progress=False)
    except ModelError as error:
        pytest.skip(f"the embedded model cannot be had here: {error}")
    project = Project(tmp_path / "project", Path("smollm2-135m-instruct"), prefect_api)
    project.write(
        rounds=1,
        prompts={"per_round": 6, "only_constrained": True, "languages": ["en"]},
        generate={"candidates": 3, "temperature": 0.8, "top_p": 0.95, "max_tokens": 32},
        evaluate={"prompts": 8},
        train={"id": "dpo", "learning_rate": 2e-5, "batch_size": 4, "micro_batch_size": 2, "nll_weight": 0.5},
    )
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    first, second = project.sql("select * from round_summary order by round")
    assert first["weights_hash"] != second["weights_hash"]
    assert second["pairs"] > 0
    assert second["pass_rate_strict"] is not None
    metrics = json.loads(project.sql("select metrics from checkpoints")[0]["metrics"])
    assert metrics["guard_loss"] == pytest.approx(math.log(2), abs=1e-4)
    texts = [row["text"] for row in project.sql("select text from candidates")]
    words = " ".join(texts).lower().split()
    assert {"the", "a", "to"} <= set(words), "the weights are those of a model that writes English"
