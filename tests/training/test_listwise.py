from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from selfalign.errors import BadInput, EmptyStage, GuardFailed
from selfalign.identity import hash_weights
from selfalign.training import listwise_run, wrapping
from selfalign.training.dataset import ranking_columns
from selfalign.training.listwise import PROConfig, PROTrainer, RRHFConfig, RRHFTrainer
from selfalign.training.policy import load_model, quiet
from selfalign.types import RankingExample, TrainingResult
from tests.training.examples import job, rankings

QUICK = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0, "epochs": 1}
TRAINERS = {"rrhf": RRHFTrainer, "pro": PROTrainer}


def train(
    name: str, folder: Path, parent: Path, examples: list[RankingExample] | None = None, **values: Any
) -> TrainingResult:
    plugin = TRAINERS[name]
    config = plugin.Config.model_validate({**QUICK, **values})
    return plugin(config).train(job(folder, parent, rankings=rankings() if examples is None else examples))


def by_hand(name: str, model: Any, example: RankingExample) -> float:
    """The loss of one ranking from full logits, one completion at a time, in plain arithmetic."""
    sums = []
    for completion in example.completions:
        ids = [*example.prompt_ids, *completion]
        with torch.no_grad():
            rows = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        sums.append(sum(rows[t - 1, ids[t]].item() for t in range(len(example.prompt_ids), len(ids))))
    means = [value / len(ids) for value, ids in zip(sums, example.completions, strict=True)]
    listed = list(zip(means, example.scores, strict=True))
    sft = -means[example.scores.index(max(example.scores))]
    if name == "rrhf":
        return sft + sum(max(0.0, p - q) for p, r in listed for q, s in listed if r < s)
    total = 2.0 * (len(listed) - 1) ** 2 * sft
    for p, r in listed:
        rest = [(q, r - s) for q, s in listed if s < r]
        if rest:
            own = math.exp(p * max(t for _, t in rest))
            total -= math.log(own / (own + sum(math.exp(q * t) for q, t in rest)))
    return total


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_starts_at_the_parent_and_learns_the_order(tiny_model: Path, tmp_path: Path, name: str, method: str) -> None:
    result = train(name, tmp_path, tiny_model, method=method, epochs=6, schedule="constant")
    metrics = result.metrics
    assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], rel=1e-5)
    assert metrics["guard_logp_gap"] < 1e-4
    assert metrics["train_loss"] < metrics["train_loss_first"]
    assert metrics["best_logp_change"] > metrics["rest_logp_change"]
    assert metrics["best_nll"] < metrics["best_nll_parent"]
    assert 0 <= metrics["rank_accuracy_parent"] <= metrics["rank_accuracy"] <= 1
    assert (result.n_examples, result.reference_hash) == (8, None)
    assert hash_weights(tmp_path / "output") != hash_weights(tiny_model)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_steps_loss_is_the_mean_over_its_rankings(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Rankings of two to four completions in uneven micro-batches (2 + 1), one of them with half the weight."""
    examples = [replace(e, weight=0.5 if i == 1 else 1.0) for i, e in enumerate(rankings(3))]
    result = train(name, tmp_path, tiny_model, examples)
    model = load_model(tiny_model)
    expected = sum(e.weight * by_hand(name, model, e) for e in examples) / 3
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_rows_of_a_micro_batch(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    examples = rankings(2)
    recipe = listwise_run._Listwise(RRHFConfig.model_validate(QUICK))
    with quiet():
        trainer = recipe.trainer(job(tmp_path, tiny_model), Dataset.from_dict(ranking_columns(examples)))
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["sizes"].tolist() == [len(e.completions) for e in examples]
    assert batch["scores"].tolist() == [score for e in examples for score in e.scores]
    rows = [(e.prompt_ids, ids) for e in examples for ids in e.completions]
    assert len(batch["input_ids"]) == len(rows)
    for row, (prompt, completion) in enumerate(rows):
        learned = batch["labels"][row][batch["labels"][row] != -100]
        assert learned.tolist() == list(completion)
        assert batch["input_ids"][row, : len(prompt)].tolist() == list(prompt)


def test_other_weights_than_the_parents_are_stopped(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapping, "load_model", lambda folder: load_model(other_model))
    with pytest.raises(GuardFailed, match="parent checkpoint"):
        train("pro", tmp_path, tiny_model)


def test_rank_accuracy_counts_pairs_with_different_scores() -> None:
    example = RankingExample("r", (1,), ((1,), (1, 1), (1,)), (2.0, 1.0, 1.0), 1.0)
    # Token means -1, -2, -0.5: the best beats the second and loses to the third; the tie does not count.
    assert listwise_run.rank_accuracy([example], [(-1.0, -4.0, -0.5)]) == 0.5


@pytest.mark.parametrize(
    ("example", "match"),
    [
        (RankingExample("r", (1,), ((2,), (3,)), (1.0, 1.0), 1.0), r"ranking r: scores \[1.0, 1.0\] rank nothing"),
        (RankingExample("r", (1,), ((2,),), (1.0,), 1.0), "rank nothing"),
        (RankingExample("r", (1,), ((2,), (3,)), (1.0,), 1.0), "2 completions with scores"),
        (RankingExample("r", (1,), ((2,), (3,)), (1.0, math.nan), 1.0), "every one needs a number"),
        (RankingExample("r", (1,), ((2,), ()), (1.0, 0.0), 1.0), "ranking r: empty completion"),
        (RankingExample("r", (1,), ((2,), (3,)), (1.0, 0.0), -1.0), "ranking r: weight -1.0"),
        (RankingExample("r", (1,) * 99, ((2,), (3,)), (1.0, 0.0), 1.0), "its prompt has 99 tokens"),
    ],
)
def test_wrong_rankings_are_found_before_training(
    tiny_model: Path, tmp_path: Path, example: RankingExample, match: str
) -> None:
    with pytest.raises(BadInput, match=match):
        train("rrhf", tmp_path, tiny_model, [*rankings(2), example], max_length=64)


def test_nothing_to_train_on(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyStage, match="no rankings"):
        train("pro", tmp_path, tiny_model, [])


def test_settings() -> None:
    assert (RRHFConfig().learning_rate, RRHFConfig().epochs, RRHFConfig().ranking_weight) == (2e-5, 3.0, 1.0)
    assert (PROConfig().learning_rate, PROConfig().sft_weight, PROConfig().temperatures) == (1e-6, 2.0, True)
    for wrong in ({"sft_weight": -1}, {"ranking_weight": 1}, {"id": "rrhf"}):
        with pytest.raises(ValidationError):
            PROConfig.model_validate(wrong)
