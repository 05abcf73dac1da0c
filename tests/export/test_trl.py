"""What is exported trains with TRL's own trainers as it is; columns of provenance change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfalign.export.request import Request, checked
from selfalign.export.run import export
from selfalign.workspace import Workspace

_ONE_STEP = {
    "max_steps": 1, "per_device_train_batch_size": 4, "report_to": [], "save_strategy": "no", "use_cpu": True, "seed": 1,
    "disable_tqdm": True, "logging_strategy": "no", "bf16": False, "learning_rate": 1e-3, "gradient_checkpointing": False,
}  # fmt: skip


def _dpo(model: str, data: Any, folder: Path) -> Any:
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(model, args=DPOConfig(str(folder), max_length=256, **_ONE_STEP), train_dataset=data)


def _kto(model: str, data: Any, folder: Path) -> Any:
    from trl import KTOConfig, KTOTrainer

    return KTOTrainer(model, args=KTOConfig(str(folder), max_length=256, **_ONE_STEP), train_dataset=data)


def _sft(model: str, data: Any, folder: Path) -> Any:
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(model, args=SFTConfig(str(folder), max_length=256, **_ONE_STEP), train_dataset=data)


def _reward(model: str, data: Any, folder: Path) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    torch.manual_seed(0)  # the head is new
    scorer = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    args = RewardConfig(str(folder), max_length=256, **_ONE_STEP)
    return RewardTrainer(scorer, args=args, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(model))


@pytest.mark.parametrize(
    ("kind", "style", "trainer"),
    [
        *(("pairs", style, _dpo) for style in ("standard", "conversational")),
        *(("pairs", style, _reward) for style in ("standard", "conversational")),
        *(("unary", style, _kto) for style in ("standard", "conversational")),
        *(("sft", style, _sft) for style in ("standard", "conversational", "messages")),
    ],
)
def test_one_step(
    made: Workspace, tiny_model: Path, tmp_path: Path, kind: str, style: str, trainer: Callable[..., Any]
) -> None:
    from datasets import load_from_disk

    losses = {}
    for bare in (False, True) if style == "standard" else (False,):
        output = tmp_path / f"bare-{bare}"
        request = Request(kind=kind, output=output, format="hf", style=style, bare=bare)  # type: ignore[arg-type]
        export(made, checked(request))
        losses[bare] = trainer(str(tiny_model), load_from_disk(str(output)), tmp_path / "trained").train().training_loss
    assert all(0 < loss < 20 for loss in losses.values())
    assert len(set(losses.values())) == 1, "TRL read a column that is not its own"
