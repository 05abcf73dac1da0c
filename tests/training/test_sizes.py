from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model

from selfalign.training.pairwise import DPOTrainer
from selfalign.training.policy import load_model
from selfalign.training.sizes import adapter_weights, shapes, training_bytes
from selfalign.training.wrapping import adapter_config


def config(**values: Any) -> DPOTrainer.Config:
    return DPOTrainer.Config.model_validate({"lora": {"r": 4}, **values})


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora"},
        {"method": "dora"},
        {"method": "pissa"},
        {"method": "lora", "lora": {"r": 3, "targets": ["q_proj", "self_attn.v_proj"]}},
        {"method": "dora", "lora": {"r": 2, "targets": "down_proj"}},
    ],
)
def test_an_adapter_has_as_many_weights_as_peft_makes(tiny_model: Path, settings: dict[str, Any]) -> None:
    model = get_peft_model(load_model(tiny_model), adapter_config(config(**settings)))
    made = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapter_weights(config(**settings), shapes(tiny_model)) == made


def test_a_pissa_adapter_is_kept_with_twice_the_rank() -> None:
    model = {"a.q_proj.weight": (10, 6), "embed_tokens.weight": (100, 6)}
    assert adapter_weights(config(method="pissa"), model) == 4 * 16
    assert adapter_weights(config(method="pissa"), model, kept=True) == 8 * 16
    assert adapter_weights(config(), model) == 0


def test_memory_of_a_training() -> None:
    model = {"a.q_proj.weight": (64, 64), "embed_tokens.weight": (100, 64), "norm.weight": (64,)}
    total = 64 * 64 + 100 * 64 + 64
    assert training_bytes(config(), model) == 16 * total
    assert training_bytes(config(optimizer="rmsprop"), model) == 12 * total
    assert training_bytes(config(method="lora"), model) == 4 * total + 16 * 4 * 128
    assert training_bytes(config(method="dora"), model) == 4 * total + 16 * (4 * 128 + 64)
    quantised = training_bytes(config(method="qlora", qlora={"double": False}), model)
    assert quantised == 4 * (total - 4096) + 4096 * 4.5 / 8 + 16 * 4 * 128
    assert training_bytes(config(method="qlora"), model) < quantised
