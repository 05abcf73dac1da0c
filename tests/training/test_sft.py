from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign import packing
from selfalign.errors import BadInput, EmptyStage, GuardFailed
from selfalign.identity import hash_weights
from selfalign.training import loop, rows_trl, sft_run, wrapping
from selfalign.training.checkpoints import stored_dtype
from selfalign.training.dataset import completion_columns, training_order
from selfalign.training.policy import load_model, quiet
from selfalign.training.sft import SFTConfig, SFTTrainer
from selfalign.types import CompletionExample, TrainingResult
from tests.training.examples import completions, job

QUICK = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0}


def train(folder: Path, parent: Path, examples: list[CompletionExample] | None = None, **values: Any) -> TrainingResult:
    examples = completions() if examples is None else examples
    return SFTTrainer(SFTConfig(**{**QUICK, **values})).train(job(folder, parent, completions=examples))


def mean_nll(model: Any, examples: list[CompletionExample]) -> float:
    """Brute force: full logits, one example at a time, completion tokens only."""
    total, count = 0.0, 0
    for example in examples:
        ids = [*example.prompt_ids, *example.completion_ids]
        with torch.no_grad():
            rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for t in range(len(example.prompt_ids), len(ids)):
            total, count = total - rows[t - 1, ids[t]].item(), count + 1
    return total / count


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_starts_at_the_parents_nll_and_lowers_it(tiny_model: Path, tmp_path: Path, method: str) -> None:
    result = train(tmp_path, tiny_model, method=method, epochs=5)
    metrics = result.metrics
    assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], abs=1e-4)
    assert metrics["nll_parent"] == pytest.approx(mean_nll(load_model(tiny_model), completions()), abs=1e-4)
    assert metrics["nll"] == pytest.approx(mean_nll(load_model(tmp_path / "output"), completions()), abs=1e-4)
    assert metrics["nll"] < metrics["nll_parent"] and metrics["logp_change"] > 0
    assert metrics["train_loss"] < metrics["train_loss_first"]
    assert hash_weights(tmp_path / "output") != hash_weights(tiny_model)
    assert result.reference_hash is None


def test_the_loss_is_over_completion_tokens_only(tiny_model: Path, tmp_path: Path) -> None:
    """The first step's loss is the brute-force mean over the completion tokens of its four examples."""
    result = train(tmp_path, tiny_model, examples=completions(4))
    assert result.history[0]["loss"] == pytest.approx(mean_nll(load_model(tiny_model), completions(4)), abs=1e-4)


def test_prompt_labels_have_no_effect(tiny_model: Path, tmp_path: Path) -> None:
    """Prompt positions are labelled -100, and only columns that predict a completion token reach the head."""
    from datasets import Dataset

    columns = completion_columns(completions(2))
    with quiet():
        trainer = sft_run._Sft(SFTConfig(**QUICK)).trainer(job(tmp_path, tiny_model), Dataset.from_dict(columns))
    batch = next(iter(trainer.get_train_dataloader()))
    for row, example in enumerate(completions(2)):
        assert (batch["labels"][row, : len(example.prompt_ids)] == -100).all()
    loss = trainer.compute_loss(trainer.model, batch).item()
    assert loss == pytest.approx(mean_nll(load_model(tiny_model), completions(2)), abs=1e-4)


def test_parity_with_stock_trl(tiny_model: Path, tmp_path: Path) -> None:
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    config = SFTConfig(**{**QUICK, "learning_rate": 1e-4})
    examples = completions(12)
    ours = SFTTrainer(config).train(job(tmp_path / "ours", tiny_model, completions=examples))
    lengths = [len(e.prompt_ids) + len(e.completion_ids) for e in examples]
    order = training_order(lengths, 1.0, config.batch_size, seed=7, bucketing=False)
    columns = completion_columns(examples)
    args = trl.SFTConfig(
        **loop.arguments(config, 12, 7, tmp_path / "stock"), dataset_kwargs={"skip_prepare_dataset": True}
    )
    with quiet():
        stock = trl.SFTTrainer(
            model=str(tiny_model), args=args, processing_class=AutoTokenizer.from_pretrained(tiny_model),
            train_dataset=Dataset.from_dict({k: columns[k] for k in ("input_ids", "labels")}).select(order),
        )  # fmt: skip
        stock.train()
    theirs = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert [step["loss"] for step in ours.history] == pytest.approx(theirs, abs=1e-5)
    mine = load_model(tmp_path / "ours" / "output").state_dict()
    for name, tensor in stock.model.state_dict().items():
        torch.testing.assert_close(tensor, mine[name], rtol=0, atol=1e-5)


def test_other_weights_than_the_parents_are_stopped(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapping, "load_model", lambda folder: load_model(other_model))
    with pytest.raises(GuardFailed, match="parent checkpoint"):
        train(tmp_path, tiny_model)


def test_weights_scale_their_examples(tiny_model: Path, tmp_path: Path) -> None:
    silent = [CompletionExample(e.example_id, e.prompt_ids, e.completion_ids, 0.0) for e in completions(4)]
    with pytest.raises(GuardFailed, match="training changed nothing"):
        train(tmp_path, tiny_model, examples=silent)


def test_nothing_to_train_on(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyStage, match="no completions"):
        train(tmp_path, tiny_model, examples=[])
    with pytest.raises(BadInput, match="example e: empty completion"):
        train(tmp_path, tiny_model, examples=[CompletionExample("e", (1,), (), 1.0)])


def test_average_over_examples_counts_short_and_long_ones_alike(tiny_model: Path, tmp_path: Path) -> None:
    examples = completions(4)
    assert len({len(e.completion_ids) for e in examples}) > 1
    model = load_model(tiny_model)
    wanted = sum(mean_nll(model, [e]) for e in examples) / 4
    result = train(tmp_path, tiny_model, examples=examples, average="examples")
    assert result.history[0]["loss"] == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted - mean_nll(model, examples)) > 1e-3


@pytest.mark.parametrize("method", ["full", "lora"])
def test_packing_trains_the_same_weights(
    tiny_model: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four examples of one long prompt: packed, a micro-batch reads it once."""
    prompt = tuple(40 + i % 50 for i in range(60))
    examples = [CompletionExample(e.example_id, prompt, e.completion_ids, 1.0) for e in completions(12)]
    reads: list[int] = []
    packed_log_probs = packing.packed_log_probs

    def counted(model: Any, packed: packing.Packed) -> Any:
        reads.append(len(packed.ids))
        return packed_log_probs(model, packed)

    monkeypatch.setattr(rows_trl, "packed_log_probs", counted)
    found = {}
    for packs in ("off", "auto"):
        train(tmp_path / packs, tiny_model, examples=examples, method=method, packing=packs, learning_rate=1e-4)
        found[packs] = load_model(tmp_path / packs / "output").state_dict()
        assert bool(reads) == (packs == "auto")
    assert max(reads) < 60 + 2 * 12 + 1
    for name, tensor in found["off"].items():
        torch.testing.assert_close(found["auto"][name], tensor, rtol=0, atol=1e-5)


def test_a_model_that_packing_would_change_is_not_packed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an architecture does with positions is not known from its config alone: the first batch shows it."""
    calls: list[int] = []

    def wrong(model: Any, packed: packing.Packed) -> Any:
        calls.append(packed.n_sequences)
        return packing.packed_log_probs(model, packed) - 1.0

    monkeypatch.setattr(rows_trl, "packed_log_probs", wrong)
    train(tmp_path, tiny_model, examples=completions(8))
    assert len(calls) == 1


def test_bfloat16_keeps_the_weights_in_float32(tiny_model: Path, tmp_path: Path) -> None:
    plain = train(tmp_path / "float32", tiny_model)
    rounded = train(tmp_path / "bfloat16", tiny_model, precision="bfloat16")
    assert rounded.history[0]["loss"] != plain.history[0]["loss"]
    assert rounded.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], abs=0.05)
    assert stored_dtype(tmp_path / "bfloat16" / "output") == stored_dtype(tiny_model) == "F32"
