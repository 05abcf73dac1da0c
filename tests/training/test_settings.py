from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.preflight import check
from selfalign.training.pairwise import DPOTrainer
from tests.disk.test_estimate import context


def config(**train: Any) -> DPOTrainer.Config:
    found = validate_config({"name": "made", "model": "m", "train": {"id": "dpo", **train}}, "test").train
    assert isinstance(found, DPOTrainer.Config)
    return found


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"method": "prompt"}, "method prompt cannot be used: virtual tokens"),
        ({"method": "prefix"}, "use lora, dora, pissa or qlora"),
        ({"method": "pissa", "lora": {"dropout": 0.1}}, "lora.dropout must be 0 with pissa"),
        ({"method": "pissa", "lora": {"chain": "stack"}}, "stack goes with method lora or dora, not pissa"),
        ({"method": "full", "lora": {"chain": "stack"}}, "not full"),
        ({"method": "lora", "lora": {"rank": 8}}, "train.lora.rank: unknown key"),
        ({"method": "qlora", "qlora": {"type": "int8"}}, "train.qlora.type"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_config(train: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**train)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_alpha_has_a_default_for_each_method() -> None:
    assert config(method="lora", lora={"r": 8}).alpha == 32
    assert config(method="pissa", lora={"r": 8}).alpha == 8
    assert config(method="pissa", lora={"r": 8, "alpha": 4}).alpha == 4


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "qlora"])
def test_every_adapter_may_be_what_is_kept(method: str) -> None:
    data = {"name": "made", "model": "m", "keep": {"as": "adapter"}}
    assert validate_config({**data, "train": {"id": "dpo", "method": method}}, "test").train.low_rank
    with pytest.raises(ConfigError, match="without an adapter there is only"):
        validate_config({**data, "train": {"id": "dpo"}}, "test")


def test_a_missing_package_is_found_before_anything_else(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run = context(tmp_path / "run", tiny_model, train={"id": "dpo", "method": "qlora"})
    with pytest.raises(ConfigError, match=r"bitsandbytes, .* pip install 'selfalign\[qlora\]'"):
        check(run)
    assert not run.workspace.store_path.exists()
