"""A judge without its key is found before any work, wherever in the config it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.judges.nested import judges_in
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.stages.judge import check_judge
from selfalign.store.store import Store
from selfalign.workspace import Workspace

REMOTE = {"id": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "SELFALIGN_TEST_KEY"}
JUDGES: list[dict[str, Any]] = [
    REMOTE,
    {"id": "length", "judge": REMOTE, "penalty": 0.1},
    {"id": "jury", "members": ["verifier", {**REMOTE, "weight": 2.0}]},
    {"id": "weighted", "members": [{"id": "length", "judge": REMOTE, "penalty": 1, "weight": 1}]},
]


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge["id"])
def test_a_missing_key_is_named(judge: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = validate_config({"name": "x", "judge": judge}, "test")
    context = RunContext(config, Workspace(tmp_path), Store(tmp_path / "store.duckdb"), Silent())
    monkeypatch.delenv("SELFALIGN_TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable SELFALIGN_TEST_KEY is not set") as error:
        check_judge(context, config.judge)
    assert error.value.exit_code == 2 and "\n" not in str(error.value)
    monkeypatch.setenv("SELFALIGN_TEST_KEY", "k")
    check_judge(context, config.judge)


def test_judges_inside_a_judge_are_found_at_any_depth() -> None:
    names = [[inner.id for inner in judges_in(config_of(judge))] for judge in JUDGES]  # type: ignore[attr-defined]
    assert names == [
        ["openai"], ["length", "openai"], ["jury", "verifier", "openai"], ["weighted", "length", "openai"],
    ]  # fmt: skip


def config_of(judge: dict[str, Any]) -> Any:
    return validate_config({"name": "x", "judge": judge}, "test").judge
