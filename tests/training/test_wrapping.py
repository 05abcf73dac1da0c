"""Every method starts at its parent, ends as whole weights that answer as the adapter did, and comes back bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign.errors import GuardFailed, ModelError
from selfalign.identity import hash_weights
from selfalign.training import adapters, loop, wrapping
from selfalign.training.dataset import pair_sequences
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.pairwise import DPOTrainer
from selfalign.training.policy import load_model, quiet
from selfalign.training.sft import SFTConfig, SFTTrainer
from selfalign.types import TrainingResult
from tests.training.examples import completions, job, pairs
from tests.training.test_pairwise import as_bfloat16

SETTINGS: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 2, "warmup_ratio": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"method": "dora", "lora": {"r": 4}},
    "pissa": {"method": "pissa", "lora": {"r": 4, "niter": 4, "rslora": True}},
}
STACKED: dict[str, Any] = {"method": "dora", "lora": {"r": 4, "chain": "stack"}}


@dataclass
class Trained:
    """A training, and what the model with its adapter in place said of SEQUENCES at its end."""

    result: TrainingResult
    output: Path
    in_place: list[float]


SEQUENCES = pair_sequences(pairs())


def train(folder: Path, parent: Path, base: Path | None = None, **settings: Any) -> Trained:
    in_place: list[float] = []
    write_output = loop.write_output

    def spy(trainer: Any, *args: Any) -> None:
        in_place.extend(sequence_log_probs(trainer.model, SEQUENCES))
        write_output(trainer, *args)

    work = job(folder, parent, pairs=pairs(), base=base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_output", spy)
        result = DPOTrainer(DPOTrainer.Config(**{**SETTINGS, **settings})).train(work)
    return Trained(result, work.output, in_place)


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("trained"), tiny_model, **VARIANTS[request.param])


def assert_started_at_the_parent(result: TrainingResult) -> None:
    assert result.metrics["guard_loss_expected"] == pytest.approx(math.log(2))
    assert result.metrics["guard_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert result.metrics["guard_logp_gap"] < 1e-3


def test_training_starts_at_ln_2_and_at_the_parent(trained: Trained) -> None:
    assert_started_at_the_parent(trained.result)
    assert trained.result.metrics["train_loss_first"] == pytest.approx(math.log(2), abs=1e-5)


def test_whole_weights_answer_as_the_adapter_did(trained: Trained, tiny_model: Path) -> None:
    merged = sequence_log_probs(load_model(trained.output), SEQUENCES)
    assert merged == pytest.approx(trained.in_place, abs=1e-3)
    parent = sequence_log_probs(load_model(tiny_model), SEQUENCES)
    assert max(abs(a - b) for a, b in zip(merged, parent, strict=True)) > 0.1, "training moved the weights"
    assert not list(trained.output.glob("adapter_*"))


def test_parent_and_adapter_give_the_same_bits_again(trained: Trained, tiny_model: Path) -> None:
    assert adapters.rebuilt_hash(tiny_model, trained.output) == hash_weights(trained.output)
    origin = adapters.origin(trained.output)
    assert origin is not None
    assert origin.weights_hash == hash_weights(tiny_model)


def test_what_is_kept_is_an_adapter_for_the_parent_that_peft_loads(trained: Trained, tiny_model: Path) -> None:
    from peft import PeftModel

    config = json.loads((trained.output / adapters.FOLDER / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True, "loading it must not decompose the parent again"
    model = PeftModel.from_pretrained(load_model(tiny_model), str(trained.output / adapters.FOLDER))
    assert sequence_log_probs(model, SEQUENCES) == pytest.approx(trained.in_place, abs=1e-3)


# -- PiSSA ---------------------------------------------------------------------------------------


def test_pissa_begins_with_the_largest_directions_and_leaves_the_rest(tiny_model: Path) -> None:
    from peft import get_peft_model

    config = DPOTrainer.Config.model_validate({"method": "pissa", "lora": {"r": 4, "niter": None}})
    assert config.alpha == 4, "alpha is r, so that B A enters unscaled"
    model = get_peft_model(load_model(tiny_model), wrapping.adapter_config(config))
    name = "model.layers.0.mlp.up_proj"
    layer = model.base_model.model.get_submodule(name)
    whole = load_model(tiny_model).get_submodule(name).weight
    values = torch.linalg.svdvals(whole)
    torch.testing.assert_close(torch.linalg.matrix_norm(layer.base_layer.weight, 2), values[4])
    torch.testing.assert_close(layer.base_layer.weight + layer.get_delta_weight("default"), whole)


def test_a_reference_that_trl_would_derive_from_pissa_weights_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Stock TRL would start at a loss other than ln 2, or from other weights at ln 2 (guards.py)."""
    import trl

    config = DPOTrainer.Config.model_validate(VARIANTS["pissa"])
    args = trl.DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, precompute_ref_log_probs=False)
    with pytest.raises(GuardFailed, match="not the parent"):
        loop.make_trainer(trl.DPOTrainer, args, config, job(tmp_path, tiny_model), None, dict)
    lora = DPOTrainer.Config.model_validate({"method": "lora"})
    wrapping.refuse_derived_reference(lora, job(tmp_path, tiny_model), args)
    with pytest.raises(GuardFailed, match="the adapter goes on"):
        wrapping.refuse_derived_reference(lora, job(tmp_path, tiny_model, base=tiny_model), args)


def test_stock_trl_without_a_reference_does_start_elsewhere_with_pissa(tiny_model: Path, tmp_path: Path) -> None:
    """The hazard is real; should a later TRL be without it, refusing it can go."""
    import trl
    from datasets import Dataset

    rows = {"prompt": ["abc"] * 2, "chosen": ["def"] * 2, "rejected": ["ghijk"] * 2}
    args = trl.DPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=2, seed=1
    )
    from transformers import AutoTokenizer

    with quiet():
        trainer = trl.DPOTrainer(
            model=load_model(tiny_model), args=args, train_dataset=Dataset.from_dict(rows),
            processing_class=AutoTokenizer.from_pretrained(tiny_model),
            peft_config=wrapping.adapter_config(DPOTrainer.Config.model_validate(VARIANTS["pissa"])),
        )  # fmt: skip
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        with torch.no_grad():
            loss = float(trainer.compute_loss(trainer.model, batch))
    assert abs(loss - math.log(2)) > 1e-4


def test_a_state_saved_after_another_decomposition_is_not_continued(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another kind of processor, where the same SVD gives other bits."""
    settings = {**VARIANTS["pissa"], "save_every": 1}
    train(tmp_path, tiny_model, **settings)
    found: list[str | None] = []
    keep_start = wrapping.keep_start

    def other(model: Any, scratch: Path) -> str | None:
        found.append(keep_start(model, scratch))
        return "another start"

    monkeypatch.setattr(wrapping, "keep_start", other)
    steps: list[int] = []
    work = job(tmp_path, tiny_model, pairs=pairs(), report=lambda done, total, metrics: steps.append(done))
    DPOTrainer(DPOTrainer.Config(**{**SETTINGS, **settings})).train(work)
    assert steps == [1, 2, 3]
    assert len(found[0] or "") == 64


# -- an adapter that goes on ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("first"), tiny_model, **STACKED)


def test_an_adapter_goes_on_over_rounds(tiny_model: Path, first: Trained, tmp_path: Path) -> None:
    second = train(tmp_path, first.output, base=tiny_model, **STACKED)
    assert_started_at_the_parent(second.result)
    assert second.result.reference_hash == hash_weights(first.output)
    for round in (first, second):
        assert adapters.rebuilt_hash(tiny_model, round.output) == hash_weights(round.output)
        assert json.loads((round.output / adapters.FOLDER / "adapter_config.json").read_text())["r"] == 4
    assert hash_weights(first.output) != hash_weights(second.output)
    assert sequence_log_probs(load_model(second.output), SEQUENCES) == pytest.approx(second.in_place, abs=1e-3)


def test_sft_goes_on_too(tiny_model: Path, first: Trained, tmp_path: Path) -> None:
    work = job(tmp_path, first.output, base=tiny_model, completions=completions())
    result = SFTTrainer(SFTConfig(**{**SETTINGS, **STACKED})).train(work)
    assert result.metrics["guard_loss"] == pytest.approx(result.metrics["guard_loss_expected"], abs=1e-4)
    assert adapters.rebuilt_hash(tiny_model, work.output) == hash_weights(work.output)


def test_the_guards_allow_for_weights_that_were_rounded_when_written(tiny_model: Path, tmp_path: Path) -> None:
    """M_1 in 16 bits is not quite M_0 and its adapter."""
    m0 = as_bfloat16(tiny_model, tmp_path / "bf16")
    settings = {"method": "lora", "lora": {"r": 4, "chain": "stack"}}
    one = train(tmp_path / "1", m0, **settings)
    two = train(tmp_path / "2", one.output, base=m0, **settings)
    assert 1e-3 < two.result.metrics["guard_logp_gap"] < 0.5
    assert two.result.metrics["guard_loss"] == pytest.approx(math.log(2), abs=1e-2)
    assert adapters.rebuilt_hash(m0, two.output) == hash_weights(two.output)


# -- what is refused -----------------------------------------------------------------------------


def test_an_adapter_that_does_not_fit_the_model_is_refused_before_training(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lora\.r is 32, but .*k_proj.* has only 16 .* set lora\.r to 16 or less"):
        train(tmp_path, tiny_model, method="pissa", lora={"r": 32})
    with pytest.raises(ModelError, match=r"no linear module called w_1; it has down_proj, .*q_proj"):
        train(tmp_path, tiny_model, method="dora", lora={"targets": ["q_proj", "w_1"]})


def test_a_trainer_that_forgets_the_adapter_is_stopped(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(GuardFailed, match="without an adapter"):
        wrapping.write(
            load_model(tiny_model),
            DPOTrainer.Config(method="dora"),
            job(tmp_path, tiny_model),
            tmp_path / adapters.FOLDER,
        )
