"""The training of a reward model; imports torch and TRL, so only train_reward imports it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, set_seed
from transformers.trainer_callback import PrinterCallback

from selfalign.durable import write_atomic
from selfalign.errors import ModelError, StageFailed
from selfalign.identity import canonical, hash_weights
from selfalign.training.dataset import fit_pairs, training_order
from selfalign.training.logprobs import mixed_precision
from selfalign.training.loop import StepReport, stop_if_not_finite
from selfalign.training.policy import context_length, device, load_tokenizer, quiet
from selfalign.training.reward import RECORD, RewardResult, RewardSettings, split_pairs
from selfalign.training.rows_trl import LocalTrainer
from selfalign.types import PairExample

Report = Callable[[int, int, Mapping[str, float]], None]


class _Trainer(LocalTrainer, trl.RewardTrainer):  # type: ignore[misc]
    """TRL's trainer on our token ids: nothing is tokenised, no card is written, nothing is sent to a hub."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(*args, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        return found


@quiet()
def run(
    config: RewardSettings,
    parent: Path,
    pairs: Sequence[PairExample],
    output: Path,
    scratch: Path,
    seed: int,
    report: Report,
) -> RewardResult:
    """See reward.train_reward."""
    limit = min(config.max_length, context_length(parent) or config.max_length)
    usable = sorted((p for p in fit_pairs(pairs, limit) if p.chosen_ids != p.rejected_ids), key=lambda p: p.pair_id)
    training, held_out = split_pairs(usable, config.held_out, seed)
    tokenizer = load_tokenizer(parent)
    model = _model(parent, tokenizer.pad_token_id, seed)
    lengths = [len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in training]
    order = training_order(lengths, config.epochs, config.batch_size, seed, False)
    trainer = _Trainer(
        model=model,
        args=_arguments(config, len(order), seed, scratch),
        train_dataset=Dataset.from_dict(_columns(training, config.margin)).select(order),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepReport(report))
    trainer.train()
    history = [
        {key: float(value) for key, value in entry.items() if isinstance(value, int | float)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    own, unseen = _rewards(model, tokenizer, training), _rewards(model, tokenizer, held_out)
    mean, std = spread(own)
    result = RewardResult(
        _write(model, tokenizer, output), len(training), len(held_out), _accuracy(own),
        _accuracy(unseen) if unseen else None, mean, std, history,
    )  # fmt: skip
    record = {key: value for key, value in result.__dict__.items() if key != "history"}
    record |= {"parent_hash": hash_weights(parent), "seed": seed, "config": config.model_dump(mode="json")}
    write_atomic(output / RECORD, json.dumps(json.loads(canonical(record)), indent=2))
    shutil.rmtree(scratch, ignore_errors=True)
    return result


def _model(parent: Path, pad_token_id: int, seed: int) -> Any:
    set_seed(seed % 2**32)  # the head is new, and random
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            parent, num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True,
            trust_remote_code=False,
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{parent}: cannot become a reward model: {str(error).splitlines()[0]}") from error
    model.config.pad_token_id = pad_token_id
    return model.to(device())


def _arguments(config: RewardSettings, n_rows: int, seed: int, scratch: Path) -> Any:
    where = device()
    micro = min(config.micro_batch_size, config.batch_size)
    args = trl.RewardConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, config.batch_size // micro),
        num_train_epochs=1,  # the dataset holds all epochs, in order
        train_sampling_strategy="sequential",
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(config.warmup_ratio * math.ceil(n_rows / config.batch_size)),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        center_rewards_coefficient=config.center,
        gradient_checkpointing=False,
        seed=seed % 2**32,
        use_cpu=where.type == "cpu",
        bf16=mixed_precision(where),
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        push_to_hub=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=where.type == "cuda",
        max_length=None,
    )
    args._n_gpu = min(args.n_gpu, 1)
    return args


def _columns(pairs: Sequence[PairExample], margin: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "chosen_ids": [[*p.prompt_ids, *p.chosen_ids] for p in pairs],
        "rejected_ids": [[*p.prompt_ids, *p.rejected_ids] for p in pairs],
    }
    return columns | ({"margin": [float(p.margin) for p in pairs]} if margin == "pair" else {})


def _rewards(model: Any, tokenizer: Any, pairs: Sequence[PairExample]) -> list[tuple[float, float]]:
    """(chosen, rejected) reward of each pair."""
    found = []
    with torch.no_grad():
        for pair in pairs:
            sides = [[*pair.prompt_ids, *pair.chosen_ids], [*pair.prompt_ids, *pair.rejected_ids]]
            batch = tokenizer.pad({"input_ids": sides}, padding_side="right", return_tensors="pt").to(model.device)
            chosen, rejected = model(**batch).logits[:, 0].float().tolist()
            found.append((chosen, rejected))
    return found


def spread(rewards: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and standard deviation over both sides of all pairs.

    Raises:
        StageFailed: they are all equal or not finite, so that the model tells nothing apart.
    """
    values = [value for pair in rewards for value in pair]
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if not (math.isfinite(std) and std > 0):
        raise StageFailed(f"the trained reward model gives every answer the same reward ({mean}); lower learning_rate")
    return mean, std


def _accuracy(rewards: Sequence[tuple[float, float]]) -> float:
    return sum(chosen > rejected for chosen, rejected in rewards) / len(rewards)


def _write(model: Any, tokenizer: Any, output: Path) -> str:
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return hash_weights(output)
