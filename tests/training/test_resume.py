"""Resumed equals uninterrupted, bit for bit on a CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from selfalign.errors import StageFailed
from selfalign.identity import hash_weights
from selfalign.training.kto import KTOTrainer
from selfalign.training.listwise import RRHFTrainer
from selfalign.training.pairwise import DPOTrainer
from selfalign.training.sft import SFTTrainer
from selfalign.types import TrainingResult
from tests.training.examples import completions, job, labels, pairs, rankings

SETTINGS = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "epochs": 2.0, "save_every": 2}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"method": "lora", "lora": {"dropout": 0.2}},
    "dora": {"method": "dora"},
    "pissa": {"method": "pissa", "lora": {"r": 4, "niter": 4}},
}


class Interrupted(Exception):
    pass


def stop_after(step: int) -> Any:
    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == step:
            raise Interrupted

    return report


def train(folder: Path, parent: Path, report: Any = None, seed: int = 0, **values: Any) -> TrainingResult:
    values = {**SETTINGS, **values}
    arguments = {"report": report} if report else {}
    return DPOTrainer(DPOTrainer.Config(**values)).train(job(folder, parent, pairs=pairs(10, seed), **arguments))


@pytest.mark.parametrize(("method", "step"), [*((m, s) for m in ("full", "lora") for s in (1, 3, 5)), ("dora", 3)])
def test_an_interrupted_training_ends_with_the_same_bits(
    tiny_model: Path, tmp_path: Path, method: str, step: int
) -> None:
    whole = train(tmp_path / "whole", tiny_model, **METHODS[method])
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", tiny_model, report=stop_after(step), **METHODS[method])
    seen: list[int] = []
    resumed = train(
        tmp_path / "cut", tiny_model, report=lambda done, total, metrics: seen.append(done), **METHODS[method]
    )
    assert seen == list(range(step - step % 2 + 1 if step % 2 else step, 6))
    assert hash_weights(tmp_path / "cut" / "output") == hash_weights(tmp_path / "whole" / "output")
    assert resumed.metrics == whole.metrics
    assert [s["loss"] for s in resumed.history] == [s["loss"] for s in whole.history]


@pytest.mark.parametrize("method", ["full", "pissa"])
def test_a_killed_process_ends_with_the_same_bits(tiny_model: Path, tmp_path: Path, method: str) -> None:
    train(tmp_path / "whole", tiny_model, **METHODS[method])
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.training.test_resume import METHODS, train\n"
        "def report(done, total, metrics):\n"
        "    if done == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), report=report, **METHODS[sys.argv[3]])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cut"), str(tiny_model), method]
    killed = subprocess.run(command, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    states = tmp_path / "cut" / "scratch" / "checkpoints"
    assert [p.name for p in states.iterdir()] == ["checkpoint-4"]
    (states / "checkpoint-5").mkdir()
    (states / "checkpoint-5" / "model.safetensors").write_bytes(b"half")
    seen: list[int] = []
    train(tmp_path / "cut", tiny_model, report=lambda done, total, metrics: seen.append(done), **METHODS[method])
    assert seen == [5, 6][: len(seen)] and seen[0] == 5
    assert hash_weights(tmp_path / "cut" / "output") == hash_weights(tmp_path / "whole" / "output")


def test_a_finished_training_that_could_not_report_is_not_repeated(tiny_model: Path, tmp_path: Path) -> None:
    first = train(tmp_path, tiny_model)
    weights = hash_weights(tmp_path / "output")
    seen: list[int] = []
    again = train(tmp_path, tiny_model, report=lambda done, total, metrics: seen.append(done))
    assert seen == [] and hash_weights(tmp_path / "output") == weights
    assert again.metrics == first.metrics


def test_states_of_another_training_are_not_continued(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    for parent, seed in ((tiny_model, 1), (other_model, 0)):
        train(tmp_path / "used", tiny_model)
        train(tmp_path / "used", parent, seed=seed)
        train(tmp_path / f"fresh{seed}", parent, seed=seed)
        assert hash_weights(tmp_path / "used" / "output") == hash_weights(tmp_path / f"fresh{seed}" / "output")


def test_saving_states_does_not_change_the_result(tiny_model: Path, tmp_path: Path) -> None:
    train(tmp_path / "with", tiny_model)
    train(tmp_path / "without", tiny_model, save_every=None)
    assert hash_weights(tmp_path / "with" / "output") == hash_weights(tmp_path / "without" / "output")
    assert not list((tmp_path / "without" / "scratch" / "checkpoints").iterdir())


def test_a_disk_that_fills_while_a_state_is_saved(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def full(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(StageFailed, match="the disk is full"):
            train(tmp_path / "cut", tiny_model)
    train(tmp_path / "cut", tiny_model)
    train(tmp_path / "whole", tiny_model)
    assert hash_weights(tmp_path / "cut" / "output") == hash_weights(tmp_path / "whole" / "output")


OTHERS: dict[str, tuple[Any, Callable[[], dict[str, Any]]]] = {
    "sft": (SFTTrainer, lambda: {"completions": completions()}),
    "kto": (KTOTrainer, lambda: {"labels": labels()}),
    "rrhf": (RRHFTrainer, lambda: {"rankings": rankings()}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_trainers_resume_to_the_same_bits(tiny_model: Path, tmp_path: Path, name: str) -> None:
    plugin, examples = OTHERS[name]

    def train(folder: Path, **values: Any) -> TrainingResult:
        trainer = plugin(plugin.Config.model_validate(SETTINGS))
        result: TrainingResult = trainer.train(job(folder, tiny_model, **examples(), **values))
        return result

    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", report=stop_after(3))
    seen: list[int] = []
    resumed = train(tmp_path / "cut", report=lambda done, total, metrics: seen.append(done))
    assert seen[0] == 3
    assert hash_weights(tmp_path / "cut" / "output") == hash_weights(tmp_path / "whole" / "output")
    assert resumed.metrics == whole.metrics
