from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from selfalign.errors import BadInput, EmptyStage, GuardFailed, StageFailed
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.training import dpo_run, logprobs, loop, wrapping
from selfalign.training.checkpoints import stored_dtype
from selfalign.training.dataset import pair_columns, pair_sequences
from selfalign.training.dpo import DPOConfig, DPOTrainer
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.policy import load_model, quiet
from selfalign.types import PairExample, TrainingResult
from tests.training.examples import job, pairs

QUICK = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0}


def train(folder: Path, parent: Path, reference: Path | None = None, **values: Any) -> TrainingResult:
    config = DPOConfig(**{**QUICK, **{k: v for k, v in values.items() if k in DPOConfig.model_fields}})
    rest = {k: v for k, v in values.items() if k not in DPOConfig.model_fields}
    return DPOTrainer(config).train(job(folder, parent, reference, **{"pairs": pairs(), **rest}))


# -- what it starts from -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_starts_at_ln_2_and_at_the_parent(tiny_model: Path, tmp_path: Path, method: str) -> None:
    result = train(tmp_path, tiny_model, method=method, nll_weight=0.5)
    assert result.metrics["guard_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert result.metrics["guard_loss_expected"] == pytest.approx(math.log(2))
    assert result.metrics["guard_logp_gap"] < 1e-4


def test_the_first_logged_loss_is_ln_2(tiny_model: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tiny_model)
    assert result.metrics["train_loss_first"] == pytest.approx(math.log(2), abs=1e-5)
    assert result.history[0]["loss"] == result.metrics["train_loss_first"]
    assert result.reference_hash == hash_weights(tiny_model)


def test_another_reference_starts_at_its_own_expected_loss(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tiny_model, reference=other_model)
    expected = result.metrics["guard_loss_expected"]
    assert abs(expected - math.log(2)) > 1e-3
    assert result.metrics["guard_loss"] == pytest.approx(expected, abs=1e-5)
    assert result.reference_hash == hash_weights(other_model)
    # Displacement is measured from the reference, logp_change from the parent.
    assert abs(result.metrics["chosen_displacement"] - result.metrics["chosen_logp_change"]) > 1e-3


def test_a_policy_that_is_not_the_parent_is_stopped(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapping, "load_model", lambda folder: load_model(other_model))
    with pytest.raises(GuardFailed, match="parent checkpoint"):
        train(tmp_path, tiny_model)
    assert not (tmp_path / "output").exists()


def test_an_adapter_that_is_no_no_op_is_stopped(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def random_b(settings: Any) -> Any:
        config = adapter_config(settings)
        config.init_lora_weights = False
        return config

    adapter_config = wrapping.adapter_config
    monkeypatch.setattr(wrapping, "adapter_config", random_b)
    with pytest.raises(GuardFailed, match="parent checkpoint"):
        train(tmp_path, tiny_model, method="lora")


def test_wrong_reference_log_probs_are_stopped_by_the_loss(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    """The policy is right, the columns are another model's: only the loss can tell."""
    examples = pairs(2)
    right, wrong = (sequence_log_probs(load_model(m), pair_sequences(examples)) for m in (tiny_model, other_model))
    trainer = make_trainer(tiny_model, tmp_path, examples, wrong)
    with pytest.raises(GuardFailed, match=r"start at loss .* expected 0\.693147"):
        dpo_run.step_one_guards(trainer, right, right, [1.0, 1.0], beta=0.1)


def make_trainer(parent: Path, folder: Path, examples: list[PairExample], reference: list[float], **values: Any) -> Any:
    from datasets import Dataset

    with quiet():
        return dpo_run._trainer(
            DPOConfig(**{**QUICK, **values}), job(folder, parent), Dataset.from_dict(pair_columns(examples, reference))
        )


# -- the loss and what it does -------------------------------------------------------------------


def test_training_lowers_the_loss_and_widens_the_margin(tiny_model: Path, tmp_path: Path) -> None:
    result = train(tmp_path, tiny_model, pairs=pairs(4), epochs=20, schedule="constant")
    metrics = result.metrics
    assert metrics["steps"] == 20
    assert metrics["train_loss"] < 0.5 < metrics["train_loss_first"]
    assert metrics["reward_margin"] > 0.5 and metrics["reward_accuracy"] == 1.0
    assert metrics["chosen_displacement"] - metrics["rejected_displacement"] == pytest.approx(
        metrics["reward_margin"] / 0.1
    )
    margins = [step["reward_margin"] for step in result.history]
    assert margins[-1] > margins[10] > margins[0] == pytest.approx(0, abs=1e-4)


def test_figures_have_the_papers_signs() -> None:
    # methods.md, fixture F, twice; the parent is the reference: a = 2, b = -5, h = 7.
    example = PairExample("p", (1,), (1,) * 20, (1,) * 25, 1.0, 1.0)
    reference = [-42.0, -42.0, -50.0, -50.0]
    figures = dpo_run.pair_figures([example] * 2, [-40.0, -40.0, -55.0, -55.0], reference, reference, beta=0.1)
    assert figures["chosen_displacement"] == 2 and figures["rejected_displacement"] == -5
    assert figures["chosen_displacement_per_token"] == pytest.approx(2 / 20)
    assert figures["rejected_displacement_per_token"] == pytest.approx(-5 / 25)
    assert figures["reward_margin"] == pytest.approx(0.7)
    assert figures["reward_accuracy"] == figures["ranking_accuracy"] == figures["ranking_accuracy_parent"] == 1


def test_figures_tell_displacement_from_improvement() -> None:
    # a = -3, b = -10: the same loss as fixture F, and both answers have become less likely.
    example = PairExample("p", (1,), (1,), (1,), 1.0, 1.0)
    figures = dpo_run.pair_figures([example], [-45.0, -60.0], [-42.0, -50.0], [-42.0, -50.0], beta=0.1)
    assert figures["reward_margin"] == pytest.approx(0.7)
    assert figures["chosen_displacement"] == -3


def test_micro_batches_do_not_change_the_result(tiny_model: Path, tmp_path: Path) -> None:
    """Seven pairs, steps of four: the last step's micro-batches are uneven (2 + 1), and count by pair."""
    one, two = (
        train(tmp_path / str(m), tiny_model, pairs=pairs(7), micro_batch_size=m, learning_rate=1e-4) for m in (4, 2)
    )
    assert [s["loss"] for s in one.history] == pytest.approx([s["loss"] for s in two.history], abs=1e-5)
    assert_same_weights(tmp_path / "4" / "output", tmp_path / "2" / "output")


def assert_same_weights(one: Path, other: Path, atol: float = 1e-5) -> None:
    states = [load_model(folder).state_dict() for folder in (one, other)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_weights_scale_their_pairs_loss(tiny_model: Path, tmp_path: Path) -> None:
    examples = pairs(2)
    reference = sequence_log_probs(load_model(tiny_model), pair_sequences(examples))
    weighted = [PairExample(p.pair_id, p.prompt_ids, p.chosen_ids, p.rejected_ids, 1.0, w) for p, w in
                zip(examples, (3.0, 0.0), strict=True)]  # fmt: skip
    trainer = make_trainer(tiny_model, tmp_path, weighted, reference)
    assert loop.first_batch_loss(trainer) == pytest.approx(1.5 * math.log(2), abs=1e-5)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch).backward()
    gradient = trainer.model.model.norm.weight.grad.clone()
    alone = make_trainer(tiny_model, tmp_path, weighted[:1], [reference[0], reference[2]])
    alone.compute_loss(alone.model, next(iter(alone.get_train_dataloader()))).backward()
    torch.testing.assert_close(gradient, alone.model.model.norm.weight.grad / 2, rtol=1e-3, atol=1e-6)


def test_parity_with_stock_trl(tiny_model: Path, tmp_path: Path) -> None:
    """The same pairs as text through trl.DPOTrainer: the same losses, the same weights after three steps."""
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    from selfalign.training.dataset import training_order

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    end = (tokenizer.eos_token_id,)
    examples = [
        PairExample(p.pair_id, p.prompt_ids, p.chosen_ids + end, p.rejected_ids + end, 1.0, 1.0) for p in pairs(12)
    ]
    config = DPOConfig(**{**QUICK, "learning_rate": 1e-4, "nll_weight": 0.3})
    texts = {
        "prompt": [tokenizer.decode(p.prompt_ids) for p in examples],
        "chosen": [tokenizer.decode(p.chosen_ids[:-1]) for p in examples],
        "rejected": [tokenizer.decode(p.rejected_ids[:-1]) for p in examples],
    }
    ours = DPOTrainer(config).train(job(tmp_path / "ours", tiny_model, pairs=examples))

    lengths = dpo_run._lengths(examples)
    order = training_order(lengths, 1.0, config.batch_size, seed=7, bucketing=False)
    args = trl.DPOConfig(
        **loop.arguments(config, 12, 7, tmp_path / "stock"), loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.3]
    )
    with quiet():
        stock = trl.DPOTrainer(
            model=str(tiny_model), args=args, train_dataset=Dataset.from_dict(texts).select(order),
            processing_class=tokenizer,
        )  # fmt: skip
        stock.train()
    rows = stock.train_dataset[0]
    first = examples[order[0]]
    assert (rows["prompt_ids"], rows["chosen_ids"]) == (list(first.prompt_ids), list(first.chosen_ids))
    theirs = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert len(theirs) == 3
    assert [step["loss"] for step in ours.history] == pytest.approx(theirs, abs=1e-5)
    stock.model.save_pretrained(tmp_path / "stock" / "output")
    assert_same_weights(tmp_path / "ours" / "output", tmp_path / "stock" / "output")


# -- what it writes ------------------------------------------------------------------------------


def test_the_output_is_a_complete_folder(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    train(tmp_path, tiny_model)
    output = tmp_path / "output"
    assert {p.name for p in output.iterdir()} == {p.name for p in tiny_model.iterdir()}
    assert hash_tokenizer(output) == hash_tokenizer(tiny_model)
    assert (output / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
    assert AutoTokenizer.from_pretrained(output).chat_template
    assert hash_weights(output) != hash_weights(tiny_model)


def test_weights_keep_the_parents_stored_dtype(tiny_model: Path, tmp_path: Path) -> None:
    parent = as_bfloat16(tiny_model, tmp_path / "bf16")
    result = train(tmp_path, parent)
    assert stored_dtype(tmp_path / "output") == "BF16"
    assert result.metrics["guard_logp_gap"] < 1e-4


def as_bfloat16(folder: Path, output: Path) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(output)
    AutoTokenizer.from_pretrained(folder).save_pretrained(output)
    return output


def test_a_step_too_small_for_the_stored_dtype_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(GuardFailed, match="training changed nothing"):
        train(tmp_path, as_bfloat16(tiny_model, tmp_path / "bf16"), learning_rate=1e-12, method="lora")


def test_lora_is_merged_into_weights_that_answer_as_the_adapter_did(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = pair_sequences(pairs())
    with_adapter: list[float] = []
    write_output = loop.write_output

    def spy(trainer: Any, *args: Any) -> None:
        assert hasattr(trainer.model, "peft_config")
        with_adapter.extend(sequence_log_probs(trainer.model, sequences))
        write_output(trainer, *args)

    monkeypatch.setattr(loop, "write_output", spy)
    result = train(tmp_path, tiny_model, method="lora", epochs=3)
    assert abs(result.metrics["reward_margin"]) > 1e-3
    merged = sequence_log_probs(load_model(tmp_path / "output"), sequences)
    assert merged == pytest.approx(with_adapter, abs=1e-3)
    assert not list((tmp_path / "output").glob("adapter_*")), "the adapter itself is in a folder of its own"


# -- reference log-probabilities -----------------------------------------------------------------


def test_the_reference_is_scored_once_and_freed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(logprobs, "load_model", lambda folder: (loaded.append(folder), load_model(folder))[1])
    train(tmp_path, tiny_model)
    assert loaded == [tiny_model, tmp_path / "output"]
    train(tmp_path, tiny_model)
    assert loaded.count(tiny_model) == 1


def test_another_references_cache_is_not_reused(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, tiny_model)
    loaded: list[Path] = []
    monkeypatch.setattr(logprobs, "load_model", lambda folder: (loaded.append(folder), load_model(folder))[1])
    train(tmp_path, tiny_model, reference=other_model)
    assert other_model in loaded


# -- inputs and failures -------------------------------------------------------------------------


def test_no_pairs_is_an_empty_stage(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyStage, match="no pairs"):
        train(tmp_path, tiny_model, pairs=[])


def test_long_completions_are_cut_and_long_prompts_refused(tiny_model: Path, tmp_path: Path) -> None:
    long = PairExample("long", (50,) * 6, (51,) * 40, (52,) * 40, 1.0, 1.0)
    result = train(tmp_path, tiny_model, pairs=[long], max_length=8)
    # Two tokens of each side are left.
    per_token, total = result.metrics["chosen_displacement_per_token"], result.metrics["chosen_displacement"]
    assert per_token == pytest.approx(total / 2)
    with pytest.raises(BadInput, match="pair long: its prompt has 6 tokens"):
        train(tmp_path, tiny_model, pairs=[long], max_length=6)


def test_a_loss_that_is_not_finite_stops_training(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"loss is (nan|inf) at step \d+; lower train.learning_rate"):
        train(tmp_path, tiny_model, learning_rate=1e30, epochs=5)
    assert not (tmp_path / "output").exists()


def test_a_disk_too_small_is_found_before_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "required_bytes", lambda parent, save_state: 10**18)
    monkeypatch.setattr(logprobs, "load_model", lambda folder: pytest.fail("work was started"))
    with pytest.raises(StageFailed, match=r"training needs .* TB, .* are free"):
        train(tmp_path, tiny_model)


@pytest.mark.parametrize(
    "wrong",
    [{"beta": 0}, {"micro_batch_size": 3}, {"lora": {"targets": "lm_head"}}, {"betta": 0.1}, {"reference": "first"}],
)
def test_wrong_settings_are_found_without_torch(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DPOConfig.model_validate(wrong)


def test_every_step_is_reported_and_nothing_is_printed(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []
    result = train(tmp_path, tiny_model, report=lambda done, total, metrics: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)] and len(result.history) == 3
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


def test_same_seed_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(tmp_path / name, tiny_model, method="lora", lora={"dropout": 0.2})
    assert hash_weights(tmp_path / "one" / "output") == hash_weights(tmp_path / "two" / "output")
