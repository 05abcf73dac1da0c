"""A run's folder with three trained rounds, made by the real trainer but without the other stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selfalign.config import validate_config
from selfalign.identity import content_id, hash_tokenizer, hash_weights
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.training.pairwise import DPOTrainer
from selfalign.types import Checkpoint, Evaluation
from selfalign.workspace import Workspace
from tests.training.examples import job, pairs

SCORES = {1: 0.7, 2: 0.5, 3: 0.6}


def make_rounds(folder: Path, model: Path, rounds: int = 3, chain: str = "merge") -> Path:
    """Write checkpoints, store and config to ``folder`` and return it; trained with LoRA, so that all forms exist."""
    settings: dict[str, Any] = {"method": "lora", "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 4}
    settings["lora"] = {"chain": chain}
    config = validate_config(
        {"name": "made", "rounds": rounds, "model": str(model), "workspace": str(folder), "train": settings}, "test"
    )
    workspace = Workspace(folder)
    workspace.create()
    workspace.save_config(config)
    store = Store(workspace.store_path)
    store.create()
    store.put_run("made", seed=0, config=json.dumps(config.snapshot()), config_hash="", environment="{}", version="0")
    parent, parent_hash = model, hash_weights(model)
    store.put_round(0, weights_hash=parent_hash, status="done")
    for round in range(1, rounds + 1):
        final = workspace.checkpoint_folder(round, "")
        base = model if chain == "stack" and round > 1 else None
        work = job(folder / "work", parent, pairs=pairs(), base=base)
        DPOTrainer(DPOTrainer.Config.model_validate(settings)).train(work)
        work.output.rename(final)
        shutil.rmtree(folder / "work")
        own = hash_weights(final)
        store.put_round(round, parent_hash=parent_hash, weights_hash=own, status="done")
        store.insert([_row(round, final, parent_hash, own), _score(round)])
        parent, parent_hash = final, own
    return folder


def context_of(folder: Path, **keep: Any) -> RunContext:
    """The run at ``folder``, opened with this ``keep`` section."""
    workspace = Workspace(folder)
    data = {**workspace.load_config().snapshot(), "keep": keep, "workspace": str(folder)}
    return RunContext(validate_config(data, "test"), workspace, Store(workspace.store_path), Silent())


def _row(round: int, final: Path, parent: str, own: str) -> Checkpoint:
    size = sum(file.stat().st_size for file in final.rglob("*") if file.is_file())
    return Checkpoint(
        content_id("checkpoint", round, own, hash_tokenizer(final)), round, parent, own, f"checkpoints/{final.name}",
        "dpo", "lora", parent, 8, size, "{}", "{}",
    )  # fmt: skip


def _score(round: int) -> Evaluation:
    return Evaluation("made", round, "pass_rate_strict", "held_out", SCORES[round], None, None, 8, "{}")
