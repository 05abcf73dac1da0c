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
from selfalign.training import kto_run, loop, wrapping
from selfalign.training.dataset import training_order
from selfalign.training.frame import LogProbs
from selfalign.training.kto import KTOConfig, KTOTrainer
from selfalign.training.kto_rows import label_columns, label_rows
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.policy import load_model, quiet
from selfalign.types import LabelExample, TokenSequence, TrainingResult
from tests.training.examples import job, labels

QUICK = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0}


def train(folder: Path, parent: Path, reference: Path | None = None, **values: Any) -> TrainingResult:
    config = KTOConfig(**{**QUICK, **{k: v for k, v in values.items() if k in KTOConfig.model_fields}})
    rest = {k: v for k, v in values.items() if k not in KTOConfig.model_fields}
    return KTOTrainer(config).train(job(folder, parent, reference, **{"labels": labels(), **rest}))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_starts_at_half_the_weights_and_at_the_parent(tiny_model: Path, tmp_path: Path, method: str) -> None:
    metrics = train(tmp_path, tiny_model, method=method, weights="given").metrics
    assert metrics["guard_loss"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["guard_loss_expected"] == pytest.approx(0.5)
    assert metrics["train_loss_first"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["guard_logp_gap"] < 1e-4


def test_another_reference_starts_at_its_own_loss(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tiny_model, other_model)
    metrics = result.metrics
    assert abs(metrics["guard_loss_expected"] - 0.5) > 1e-3
    assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], abs=1e-5)
    assert result.reference_hash == hash_weights(other_model)
    assert abs(metrics["desirable_displacement"] - metrics["desirable_logp_change"]) > 1e-3


def test_wanted_answers_rise_over_unwanted_ones(tiny_model: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tiny_model, epochs=15, schedule="constant")
    metrics = result.metrics
    assert metrics["reward_margin"] > 0.3 and metrics["train_loss"] < metrics["train_loss_first"]
    margin = metrics["desirable_displacement"] - metrics["undesirable_displacement"]
    assert metrics["reward_margin"] == pytest.approx(0.1 * margin)
    assert metrics["kl_estimate"] >= 0 and metrics["kl_mismatched"] == 1
    assert all(step["kl_estimate"] >= 0 for step in result.history)
    moved = [value for name, value in result.history[0].items() if name.endswith("_displacement")]
    assert moved and moved == pytest.approx([0] * len(moved), abs=1e-4)


def test_the_rarer_class_counts_more(tiny_model: Path, tmp_path: Path) -> None:
    """4 of 12 are wanted: they count double, and both weights are on record."""
    metrics = train(tmp_path, tiny_model).metrics
    assert (metrics["n_desirable"], metrics["n_undesirable"]) == (4, 8)
    assert (metrics["desirable_weight"], metrics["undesirable_weight"], metrics["balance"]) == (2, 1, 1)
    given = KTOConfig(weights="given", desirable_weight=1.5, undesirable_weight=0.5)
    assert kto_run.class_weights(given, labels()) == (1.5, 0.5)
    heavier = [replace(e, weight=2.0 if e.label else 1.0) for e in labels()]
    assert kto_run.class_weights(KTOConfig(), heavier) == (1.0, 1.0), "examples' weights are part of the balance"


def stock(tiny_model: Path, folder: Path, config: KTOConfig, examples: list[LabelExample], **weights: float) -> Any:
    """trl.KTOTrainer after training on the same examples as text, in our order."""
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = {
        "prompt": [tokenizer.decode(e.prompt_ids) for e in examples],
        "completion": [tokenizer.decode(e.completion_ids[:-1]) for e in examples],
        "label": [e.label for e in examples],
    }
    order = training_order([0] * len(examples), 1.0, 1, seed=7, bucketing=False)
    args = trl.KTOConfig(**loop.arguments(config, len(examples), 7, folder), beta=config.beta, **weights)
    with quiet():
        trainer = trl.KTOTrainer(
            model=str(tiny_model), args=args, train_dataset=Dataset.from_dict(texts).select(order),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
    return trainer


def test_parity_with_stock_trl(tiny_model: Path, tmp_path: Path) -> None:
    """The same losses at every step, the same z0, and the same weights in the end."""
    from transformers import AutoTokenizer

    end = (AutoTokenizer.from_pretrained(tiny_model).eos_token_id,)
    # Mostly wanted answers: their tokens become likelier behind any prompt, so that z0 is not 0 for long.
    examples = [replace(e, completion_ids=e.completion_ids + end, label=i % 4 > 0) for i, e in enumerate(labels(16))]
    given = {"desirable_weight": 1.2, "undesirable_weight": 0.8}
    config = KTOConfig(**{**QUICK, "beta": 0.5, "weights": "given", **given})
    ours = KTOTrainer(config).train(job(tmp_path / "ours", tiny_model, labels=examples))
    trl_trainer = stock(tiny_model, tmp_path / "stock", config, examples, **given)
    theirs = [entry for entry in trl_trainer.state.log_history if "loss" in entry]
    assert len(theirs) == 4
    assert [step["loss"] for step in ours.history] == pytest.approx([s["loss"] for s in theirs], abs=1e-5)
    assert [step["kl_estimate"] for step in ours.history] == pytest.approx([s["kl"] for s in theirs], abs=1e-4)
    assert any(s["kl"] > 1e-3 for s in theirs), "z0 was not always 0"
    mine = load_model(tmp_path / "ours" / "output").state_dict()
    for name, tensor in trl_trainer.model.state_dict().items():
        torch.testing.assert_close(tensor, mine[name], rtol=0, atol=1e-5)


def test_micro_batches_of_a_step_count_by_example(tiny_model: Path, tmp_path: Path) -> None:
    """Five examples in micro-batches of two: the last one stands alone, and weighs as much as any other."""
    examples = labels(5)
    trainer, expected = make_trainer(tiny_model, tmp_path, examples, weight=1.0)
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["label"]) for batch in batches] == [2, 2, 1]
    total = sum(trainer.compute_loss(trainer.model, batch, num_items_in_batch=5).item() for batch in batches)
    assert total == pytest.approx(expected, abs=1e-5)
    assert trainer.last_kl_log_probs.item() != pytest.approx(trainer.last_log_probs.item())


def test_weights_scale_their_examples_loss(tiny_model: Path, tmp_path: Path) -> None:
    one, half = (make_trainer(tiny_model, tmp_path / str(w), labels(2), weight=w)[0] for w in (1.0, 0.5))
    assert loop.first_batch_loss(half) == pytest.approx(loop.first_batch_loss(one) / 2)


def make_trainer(parent: Path, folder: Path, examples: list[LabelExample], weight: float) -> tuple[Any, float]:
    """Our trainer with class weights (2, 1) and a reference that is not the parent; also its mean loss by hand."""
    from datasets import Dataset

    rows = label_rows([replace(e, weight=weight) for e in examples], 2, max_length=100)
    reference: LogProbs = [(-40.0 - i, -41.0) for i in range(len(rows))]
    recipe = kto_run._Kto(KTOConfig(**QUICK), (2.0, 1.0))
    with quiet():
        trainer = recipe.trainer(job(folder, parent), Dataset.from_dict(label_columns(rows, reference)))
    sequences = [TokenSequence(r.prompt_ids, ids) for r in rows for ids in (r.completion_ids, r.kl_ids)]
    values = sequence_log_probs(load_model(parent), sequences)
    policy = list(zip(values[::2], values[1::2], strict=True))
    losses = []
    for start in range(0, len(rows), 2):
        part = range(start, min(start + 2, len(rows)))
        z0 = max(0.0, math.fsum(policy[i][1] - reference[i][1] for i in part) / len(part))
        for i in part:
            gain = 0.1 * (policy[i][0] - reference[i][0] - z0)
            losses.append(2 / (1 + math.exp(gain)) if rows[i].label else 1 / (1 + math.exp(-gain)))
    return trainer, weight * math.fsum(losses) / len(losses)


def test_wrong_weights_or_a_wrong_reference_are_stopped(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(wrapping, "load_model", lambda folder: load_model(other_model))
        with pytest.raises(GuardFailed, match="parent checkpoint"):
            train(tmp_path / "policy", tiny_model)
    columns = kto_run.label_columns
    monkeypatch.setattr(kto_run, "label_columns", lambda rows, ref: columns(rows, [(a - 9, b) for a, b in ref]))
    with pytest.raises(GuardFailed, match="training would start at loss"):
        train(tmp_path / "reference", tiny_model)


@pytest.mark.parametrize(("side", "word"), [(True, "desirable"), (False, "undesirable")])
def test_one_class_alone_is_an_error_before_anything_is_loaded(tmp_path: Path, side: bool, word: str) -> None:
    given = [replace(e, label=side) for e in labels()]
    with pytest.raises(EmptyStage, match=f"all 12 labels are {word}, and KTO needs both"):
        train(tmp_path, tmp_path / "no model here", labels=given)
    with pytest.raises(BadInput, match=f"the {word} labels have weight 0"):
        train(tmp_path, tmp_path, labels=[replace(e, weight=0.0 if e.label == side else 1.0) for e in labels()])


def test_wrong_input_is_found_before_training(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyStage, match="no labels"):
        train(tmp_path, tiny_model, labels=[])
    long = [replace(e, prompt_ids=(50,) * 20) if e.label_id == "label03" else e for e in labels()]
    with pytest.raises(BadInput, match="label label03: its prompt has 20 tokens"):
        train(tmp_path, tiny_model, labels=long, max_length=16)
    with pytest.raises(BadInput, match="two examples at least"):
        train(tmp_path, tiny_model, epochs=0.01)


@pytest.mark.parametrize(
    "wrong", [{"micro_batch_size": 1}, {"batch_size": 1}, {"desirable_weight": 2.0}, {"beta": 0}, {"weights": "none"}]
)
def test_wrong_settings_are_found_without_torch(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KTOConfig.model_validate(wrong)
