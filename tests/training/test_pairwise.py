from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from selfalign.errors import BadInput, EmptyStage, GuardFailed, StageFailed
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.pairing.strength import preference_loss
from selfalign.registry import find
from selfalign.training import logprobs, loop, pairwise_run, wrapping
from selfalign.training.checkpoints import stored_dtype
from selfalign.training.dataset import pair_sequences
from selfalign.training.guards import FLOAT32
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.pairwise import TRAINERS, DPOTrainer, PairSettings
from selfalign.training.policy import load_model, quiet
from selfalign.training.settings import TrainingSettings
from selfalign.types import PairExample, TrainingResult
from tests.training.examples import job, pairs

QUICK = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0}


def train(folder: Path, parent: Path, reference: Path | None = None, id: str = "dpo", **values: Any) -> TrainingResult:
    kind = TRAINERS[id]
    config = kind.Config(**{**QUICK, **{k: v for k, v in values.items() if k in kind.Config.model_fields}})
    rest = {k: v for k, v in values.items() if k not in kind.Config.model_fields}
    return kind(config).train(job(folder, parent, reference, **{"pairs": pairs(), **rest}))


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
        pairwise_run.step_one_guards(trainer, examples, right, right, DPOTrainer.Config(), FLOAT32)


def make_trainer(parent: Path, folder: Path, examples: list[PairExample], reference: list[float], **values: Any) -> Any:
    config = DPOTrainer.Config(**{**QUICK, **values})
    with quiet():
        method, half = pairwise_run._Pairwise(config), len(examples)
        rows = list(zip(reference[:half], reference[half:], strict=True))
        return method.trainer(job(folder, parent), Dataset.from_dict(method.columns(examples, rows)))


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
    figures = pairwise_run.pair_figures([example] * 2, [-40.0, -40.0, -55.0, -55.0], reference, reference, beta=0.1)
    assert figures["chosen_displacement"] == 2 and figures["rejected_displacement"] == -5
    assert figures["chosen_displacement_per_token"] == pytest.approx(2 / 20)
    assert figures["rejected_displacement_per_token"] == pytest.approx(-5 / 25)
    assert figures["reward_margin"] == pytest.approx(0.7)
    assert figures["reward_accuracy"] == figures["ranking_accuracy"] == figures["ranking_accuracy_parent"] == 1


def test_pairs_of_judgements_are_measured_apart(tiny_model: Path, tmp_path: Path) -> None:
    examples = pairs(8)
    both = [replace(p, of="judgements") if i % 2 else p for i, p in enumerate(examples)]
    metrics = train(tmp_path / "both", tiny_model, pairs=both).metrics
    together = train(tmp_path / "alike", tiny_model, pairs=examples).metrics
    for name in ("chosen_displacement", "rejected_displacement", "reward_margin", "reward_accuracy"):
        apart = (metrics[name] + metrics[f"judgement_{name}"]) / 2
        assert apart == pytest.approx(together[name], abs=1e-5), "four pairs each, of the same training"
    assert metrics["chosen_displacement"] != metrics["judgement_chosen_displacement"]
    assert (metrics["measured"], metrics["judgement_measured"], together["measured"]) == (4, 4, 8)
    assert not [name for name in together if name.startswith("judgement_")]


def test_figures_tell_displacement_from_improvement() -> None:
    # a = -3, b = -10: the same loss as fixture F, and both answers have become less likely.
    example = PairExample("p", (1,), (1,), (1,), 1.0, 1.0)
    figures = pairwise_run.pair_figures([example], [-45.0, -60.0], [-42.0, -50.0], [-42.0, -50.0], beta=0.1)
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


def as_text(examples: list[PairExample], tokenizer: Any) -> dict[str, list[str]]:
    """What TRL's trainers take: they add the special tokens themselves."""
    return {
        name: [tokenizer.decode(getattr(p, f"{name}_ids"), skip_special_tokens=True) for p in examples]
        for name in ("prompt", "chosen", "rejected")
    }


def check_parity(
    folder: Path, parent: Path, config: PairSettings, stock: type[Any], arguments: Any, start: tuple[int, ...] = ()
) -> None:
    """The same pairs as text through one of TRL's trainers: the same losses, the same weights after two steps."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(parent)
    end = (tokenizer.eos_token_id,)
    examples = [
        replace(p, prompt_ids=start + p.prompt_ids, chosen_ids=p.chosen_ids + end, rejected_ids=p.rejected_ids + end)
        for p in pairs(8)
    ]
    ours = TRAINERS[config.id](config).train(job(folder / "ours", parent, pairs=examples))
    order = pairwise_run._order(config, examples, seed=7)
    with quiet():
        theirs = stock(
            model=str(parent), args=arguments(**loop.arguments(config, len(order), 7, folder / "stock")),
            train_dataset=Dataset.from_dict(as_text(examples, tokenizer)).select(order), processing_class=tokenizer,
        )  # fmt: skip
        theirs.train()
    row, first = theirs.train_dataset[0], examples[order[0]]
    ids = row["prompt_ids"] + row["chosen_ids"] if "chosen_ids" in row else row["chosen_input_ids"]
    assert ids == [*first.prompt_ids, *first.chosen_ids]
    losses = [entry["loss"] for entry in theirs.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert [step["loss"] for step in ours.history] == pytest.approx(losses, rel=1e-4, abs=1e-5)
    theirs.model.save_pretrained(folder / "stock" / "output")
    assert_same_weights(folder / "ours" / "output", folder / "stock" / "output")


SMALL = {**QUICK, "learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("id", "ours", "theirs"),
    [
        ("dpo", {"nll_weight": 0.3}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}),
        ("dpo", {"plus": [{"id": "ipo", "weight": 0.1, "beta": 0.1}]}, {"loss_type": ["sigmoid", "ipo"], "loss_weights": [1.0, 0.1]}),
        ("robust_dpo", {"label_smoothing": 0.2}, {"loss_type": "robust", "label_smoothing": 0.2}),
        ("hinge_norm", {"beta": 0.1}, {"loss_type": "hinge"}),
        ("sigmoid_norm", {"beta": 5.0}, {"loss_type": "sigmoid_norm", "beta": 5.0}),
        ("sppo", {"beta": 0.1, "weight": 2.0, "hard": True}, {"loss_type": "sppo_hard"}),
        ("apo_zero", {}, {"loss_type": "apo_zero"}),
        ("apo_down", {}, {"loss_type": "apo_down"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_parity_with_trls_dpo(
    tiny_model: Path, tmp_path: Path, id: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    import trl

    config = TRAINERS[id].Config(**{**SMALL, **ours})
    check_parity(tmp_path, tiny_model, config, trl.DPOTrainer, partial(trl.DPOConfig, **theirs))


@pytest.mark.parametrize(
    ("id", "ours", "theirs"),
    [
        ("simpo", {"label_smoothing": 0.1}, {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.5, "simpo_gamma": 1.375, "label_smoothing": 0.1}),
        ("cpo", {}, {}),
    ],
    ids=["simpo", "cpo"],
)  # fmt: skip
def test_parity_with_trls_cpo(
    tiny_model: Path, tmp_path: Path, id: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    config = TRAINERS[id].Config(**{**SMALL, **ours})
    # CPOTrainer begins every prompt with the start token, id 1 here.
    check_parity(tmp_path, tiny_model, config, CPOTrainer, partial(CPOConfig, **theirs), start=(1,))


# -- every method --------------------------------------------------------------------------------


@pytest.mark.parametrize("id", TRAINERS)
def test_every_method_starts_where_its_own_loss_says(
    tiny_model: Path, other_model: Path, tmp_path: Path, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(logprobs, "load_model", lambda folder: (loaded.append(folder), load_model(folder))[1])
    examples = [replace(p, margin=0.5 + i, chosen_score=0.8, rejected_score=0.3) for i, p in enumerate(pairs(4))]
    result = train(tmp_path, tiny_model, other_model, id=id, pairs=examples)
    metrics = result.metrics
    assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], rel=1e-5, abs=1e-5)
    assert metrics["guard_logp_gap"] < 1e-3 and metrics["steps"] == 1
    assert hash_weights(tmp_path / "output") != hash_weights(tiny_model)
    if TRAINERS[id].Config.needs_reference:
        assert result.reference_hash == hash_weights(other_model)
        assert "reward_margin" in result.history[0]
    else:
        assert result.reference_hash is None and other_model not in loaded
        assert metrics["chosen_displacement"] == metrics["chosen_logp_change"]
        assert "chosen_logp" in result.history[0]


def test_a_name_is_registered_for_every_method_and_found_by_its_loss() -> None:
    for id, trainer in TRAINERS.items():
        assert find("train", id).load() is trainer
        config = DPOTrainer.Config.model_validate({"loss": id, "epochs": 2})
        assert type(config) is trainer.Config and (config.id, config.epochs) == (id, 2)
        assert trainer.Config.model_validate(config.model_dump(mode="json")) == config
    assert DPOTrainer.Config.model_validate({"loss": "sigmoid"}) == DPOTrainer.Config()
    ipo = DPOTrainer.Config.model_validate({"id": "dpo", "loss": {"id": "ipo", "beta": 0.3}})
    assert (ipo.id, ipo.beta) == ("ipo", 0.3)
    with pytest.raises(ValidationError, match="unknown loss 'simop'; known: dpo, cdpo"):
        DPOTrainer.Config.model_validate({"loss": "simop"})


def test_a_config_of_before_there_were_other_losses_is_dumped_as_it_was() -> None:
    dumped = set(DPOTrainer.Config().model_dump()) - set(TrainingSettings.model_fields)
    assert dumped == {"id", "beta", "nll_weight", "reference"}


# -- margins, smoothing, weights -----------------------------------------------------------------


def test_margins_and_smoothing_of_the_pairs_reach_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    """Before the first step h = 0, so the loss is known: -(1 - e) log s(-m) - e log s(m)."""
    examples = [replace(p, margin=m, smoothing=e) for p, m, e in zip(pairs(2), (0.5, 2.0), (0.1, 0.3), strict=True)]
    expected = [preference_loss(0.0, margin=2 * p.margin, label_smoothing=p.smoothing or 0) for p in examples]
    values = {"id": "cdpo", "label_smoothing": "pair", "margin_scale": 2, "pairs": examples}
    result = train(tmp_path / "pair", tiny_model, **values)
    assert result.history[0]["loss"] == pytest.approx(sum(expected) / 2, abs=1e-5)
    train(tmp_path / "none", tiny_model, **{**values, "label_smoothing": 0.0})
    assert hash_weights(tmp_path / "none" / "output") != hash_weights(tmp_path / "pair" / "output")


def test_one_smoothing_for_all_is_that_of_every_pair(tiny_model: Path, tmp_path: Path) -> None:
    examples = [replace(p, smoothing=0.25) for p in pairs(4)]
    for name, smoothing in (("all", 0.25), ("each", "pair")):
        train(tmp_path / name, tiny_model, id="cdpo", label_smoothing=smoothing, pairs=examples)
    assert_same_weights(tmp_path / "all" / "output", tmp_path / "each" / "output", atol=1e-7)


# -- the order of pairs --------------------------------------------------------------------------


def margins_seen(folder: Path, parent: Path, examples: list[PairExample], **values: Any) -> list[float]:
    """Margins in the order in which a training's forward passes see the pairs."""
    seen: list[float] = []

    class Watching(pairwise_run.PairwiseTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if model.training:
                seen.extend(inputs["margin"].tolist())
            return super().compute_loss(model, inputs, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise_run, "PairwiseTrainer", Watching)
        train(folder, parent, margin_scale=0.1, pairs=examples, **values)
    return seen


def test_the_model_sees_easy_pairs_first_in_every_epoch(tiny_model: Path, tmp_path: Path) -> None:
    examples = [replace(p, margin=float(1 + (5 * i) % 7)) for i, p in enumerate(pairs(7))]
    given = [p.margin for p in examples]
    easy = margins_seen(tmp_path / "easy", tiny_model, examples, order="easy_to_hard", epochs=1.5)
    assert easy == [7, 6, 5, 4, 3, 2, 1, 7, 6, 5]
    assert margins_seen(tmp_path / "given", tiny_model, examples, order="as_given") == given
    shuffled = margins_seen(tmp_path / "shuffled", tiny_model, examples)
    assert sorted(shuffled) == sorted(given) and shuffled != given


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


def test_a_later_rounds_training_reads_what_an_earlier_one_computed(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round 2 trains on the pairs of rounds 1 and 2 against the same reference; its cache outlives the first job."""
    cache = tmp_path / "cache"
    first = [replace(p, round=1) for p in pairs(4)]
    second = [replace(p, pair_id=f"second{i}", round=2) for i, p in enumerate(pairs(4, seed=1))]
    train(tmp_path / "1", tiny_model, other_model, pairs=first, cache=cache)
    scored: list[int] = []

    def score(model: Any, sequences: list[Any], *options: Any) -> list[float]:
        scored.append(len(sequences))
        return sequence_log_probs(model, sequences, *options)

    monkeypatch.setattr(logprobs, "sequence_log_probs", score)
    # In any order: a round's pairs are taken together.
    mixed = [p for both in zip(reversed(second), first, strict=True) for p in both]
    train(tmp_path / "2", tiny_model, other_model, pairs=mixed, cache=cache)
    assert scored[0] == 8, "only the second round's sides are computed"
    train(tmp_path / "fresh", tiny_model, other_model, pairs=mixed, cache=tmp_path / "empty")
    assert hash_weights(tmp_path / "fresh" / "output") == hash_weights(tmp_path / "2" / "output")


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


@pytest.mark.parametrize(
    ("values", "pair", "message"),
    [
        ({"id": "odpo"}, {"margin": 0.0}, "pair00: the loss 'odpo' reads its margin, 0.0, and needs a number above 0; drop ties"),
        ({"id": "dpo", "margin_scale": 1}, {"margin": -1.0}, "needs a number above 0"),
        ({"id": "odpo"}, {"margin": float("nan")}, "reads its margin, nan"),
        ({"id": "sppo"}, {"chosen_score": 4.0}, r"reads its chosen_score, 4.0, and needs a win rate in \[0, 1\]"),
        ({"id": "sppo"}, {"rejected_score": float("nan")}, "reads its rejected_score, nan"),
        ({"id": "cdpo", "label_smoothing": "pair"}, {}, "reads its smoothing, None.*set pair.strength"),
        ({"id": "dpo", "plus": ["odpo"]}, {"margin": 0.0}, "the loss 'odpo'"),
        ({"id": "dpo", "order": "easy_to_hard"}, {"margin": float("nan")}, "margin nan has no place in the order"),
    ],
)  # fmt: skip
def test_pairs_that_a_loss_cannot_use_are_refused_before_work(
    tiny_model: Path, tmp_path: Path, values: Any, pair: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "load_model", lambda folder: pytest.fail("work was started"))
    with pytest.raises(BadInput, match=message):
        train(tmp_path, tiny_model, **values, pairs=[replace(p, **pair) for p in pairs(2)])


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
    [
        {"beta": 0}, {"beta": -1}, {"micro_batch_size": 3}, {"lora": {"targets": "lm_head"}}, {"betta": 0.1},
        {"reference": "first"}, {"loss": "simpo", "reference": "initial"}, {"loss": "simpo", "plus": ["dpo"]},
        {"loss": "robust_dpo", "label_smoothing": 0.5}, {"loss": "robust_dpo", "label_smoothing": "pair"},
        {"label_smoothing": 0.1}, {"plus": [{"id": "stf"}]}, {"plus": [{"id": "sft", "weight": 0}]},
        {"order": "easy_to_hard", "length_bucketing": True},
    ],
)  # fmt: skip
def test_wrong_settings_are_found_without_torch(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DPOTrainer.Config.model_validate(wrong)


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
