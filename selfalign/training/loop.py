"""What the trainers share around TRL: arguments, progress, resumable states, and the run itself."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from selfalign.durable import read_object, write_atomic
from selfalign.errors import GuardFailed, StageFailed
from selfalign.identity import content_id, hash_weights
from selfalign.packing import can_pack
from selfalign.protocols import TrainingJob
from selfalign.training import adapters, wrapping
from selfalign.training.checkpoints import (
    check_disk,
    mark_complete,
    newest_complete,
    out_of_space_is_clear,
    required_bytes,
    stored_dtype,
)
from selfalign.training.guards import BFLOAT16, FLOAT32, Tolerance, check_changed, check_log_probs
from selfalign.training.logprobs import mixed_precision
from selfalign.training.policy import context_length, device, load_tokenizer, save_folder
from selfalign.training.settings import TrainingSettings
from selfalign.training.sizes import check_adapter, shapes

#: Seconds between two states saved by time, and the least that training must still take.
_LEAST_BETWEEN_S = 60.0
#: Training time a state must be worth, in times of what it costs to save.
_SAVING_SHARE = 20.0

Report = Callable[[int, int, Mapping[str, float]], None]


def states_folder(scratch: Path) -> Path:
    return scratch / "checkpoints"


def arguments(config: TrainingSettings, n_rows: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Arguments for TRL's configs, with every default of theirs that would hurt here overridden.

    The dataset (``n_rows``) already holds all epochs in order (dataset.training_order), hence one sequential pass:
    no sampler has a random state that a resumed training would have to restore.
    """
    where = device()
    # Rounded down: transformers' first warm-up step has learning rate 0, and would be the only one of a short training.
    warmup_steps = int(config.warmup_ratio * math.ceil(n_rows / config.batch_size))
    constant = "constant_with_warmup" if warmup_steps else "constant"
    return {
        "output_dir": str(states_folder(scratch)),
        "per_device_train_batch_size": config.micro_batch(),
        "gradient_accumulation_steps": config.batch_size // config.micro_batch(),
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": constant if config.schedule == "constant" else config.schedule,
        "warmup_steps": warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "optim": config.optimizer,
        "gradient_checkpointing": config.gradient_checkpointing,
        # numpy takes seeds below 2**32 only.
        "seed": seed % 2**32,
        "use_cpu": where.type == "cpu",
        "bf16": mixed_precision(where, config.precision),
        "logging_strategy": "steps",
        "logging_steps": 1,
        # A NaN must reach us, not be replaced by an average.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if isinstance(config.save_every, int) else "no",
        "save_steps": config.save_every if isinstance(config.save_every, int) else 500,
        # Old states are deleted by us, after the new one is complete.
        "save_total_limit": None,
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": where.type == "cuda",
        "max_length": None,
    }


def make_trainer(
    kind: type[Any],
    args: Any,
    config: TrainingSettings,
    job: TrainingJob,
    dataset: Any,
    collator: type[Any],
    **more: Any,
) -> Any:
    """The TRL trainer ``kind`` on what training starts from, wrapped as ``train.method`` says.

    ``args`` is TRL's config, ``collator`` is built with the padding token's id, ``more`` goes to ``kind``.

    Raises:
        GuardFailed: TRL would derive a reference that is not the parent (wrapping.refuse_derived_reference).
        ModelError: the parent cannot be loaded, or the adapter does not fit it.
    """
    wrapping.refuse_derived_reference(config, job, args)
    check_adapter(config, shapes(job.parent))
    args._n_gpu = min(args.n_gpu, 1)  # several visible GPUs would make transformers wrap in nn.DataParallel
    tokenizer = load_tokenizer(job.parent)
    trainer = kind(
        model=wrapping.load_start(config, job),
        args=args,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=collator(pad_token_id=tokenizer.pad_token_id),
        peft_config=wrapping.adapter_config(config),
        **more,
    )
    wrapping.go_on(trainer.model, job)
    return trainer


class StepReport(TrainerCallback):  # type: ignore[misc]
    """Passes each optimizer step's figures on."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._report(state.global_step, state.max_steps, _figures(logs))


class _CompleteStates(TrainerCallback):  # type: ignore[misc]
    """Marks a state once all of it is on disk, and removes the one before.

    With ``by_time`` it also says when to save: after as much training as 20 savings take, and never in the first or
    last minute. A kill then repeats what 20 savings take, or a minute.
    """

    def __init__(self, fingerprint: str, by_time: bool) -> None:
        self._fingerprint = fingerprint
        self._by_time = by_time
        self._began = self._saved = time.monotonic()
        self._cost_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not self._by_time or state.global_step >= state.max_steps:
            return
        now = time.monotonic()
        left = (now - self._began) / max(state.global_step, 1) * (state.max_steps - state.global_step)
        due = now - self._saved >= max(_LEAST_BETWEEN_S, self._cost_s * _SAVING_SHARE) and left > _LEAST_BETWEEN_S
        if due and _has_room(Path(args.output_dir), model):
            control.should_save = True
            self._saved = now

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", self._fingerprint)
        self._cost_s = time.monotonic() - self._saved
        self._saved = time.monotonic()


def _has_room(folder: Path, model: Any) -> bool:
    """A state by time is a convenience: it is left out rather than filling the disk that the result needs."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    state = sum(4 * n + (8 * n if trained else 0) for n, trained in sizes)
    return bool(shutil.disk_usage(folder).free > 2 * state + 4 * sum(n for n, _ in sizes))


def _figures(logs: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in logs.items() if isinstance(value, int | float)}


def run(
    trainer: Any,
    fingerprint: str,
    scratch: Path,
    report: Report,
    guard: Callable[[Any], Mapping[str, float]],
    config: TrainingSettings,
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Train to the end, from the newest complete state if there is one.

    ``guard`` is called with the trainer before the first step of a fresh start and reads the first batch; its figures
    are kept beside the states, so that a resumed training reports them too, and with them whether the training packs.

    Returns:
        One mapping of figures per optimizer step, and the guard's figures.
    """
    if (start := wrapping.keep_start(trainer.model, scratch)) is not None:
        fingerprint = content_id("training_from", fingerprint, start)
    states, guards_file = states_folder(scratch), scratch / f"guards-{fingerprint}.json"
    states.mkdir(parents=True, exist_ok=True)
    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    trainer.add_callback(StepReport(report))
    trainer.add_callback(_CompleteStates(fingerprint, by_time=config.save_every == "auto"))
    begun = _read_begun(guards_file)
    if begun is None:
        # Without its guard's figures a state counts for nothing, and no old marker may outlive it.
        shutil.rmtree(states)
        states.mkdir()
    state = newest_complete(states, fingerprint)
    if state is None or begun is None:
        trainer.packing = "off"
        guarded = dict(guard(trainer))
        begun = {"guards": guarded, "packing": _packing(trainer, config)}
        write_atomic(guards_file, json.dumps(begun))
    trainer.packing = begun["packing"]
    with out_of_space_is_clear(scratch, discard=states):
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    return [_figures(entry) for entry in trainer.state.log_history if "loss" in entry], begun["guards"]


def _packing(trainer: Any, config: TrainingSettings) -> str:
    """Whether ``trainer``, which has just read its first batch plainly, may pack.

    Where its model's architecture is known to allow it, and the first batch gives the same packed.
    """
    if config.packing == "off" or device().type != "cpu" or not can_pack(trainer.model):
        return "off"
    plain = trainer.last_log_probs.tolist()
    trainer.packing = "always"
    first_batch_loss(trainer)
    try:
        check_log_probs(trainer.last_log_probs.tolist(), plain, arithmetic(config))
    except GuardFailed:
        return "off"
    return "auto"


def _read_begun(path: Path) -> dict[str, Any] | None:
    """What a training found when it began; None where it has not, or where a power cut left half of it."""
    found = read_object(path)
    return found if {"guards", "packing"} <= found.keys() else None


def write_output(trainer: Any, config: TrainingSettings, job: TrainingJob, parent_hash: str, steps: int) -> None:
    """Write the trained weights to ``job.output``, whole and readable, and check that training changed them."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = job.scratch / adapters.FOLDER
    with out_of_space_is_clear(job.output, discard=job.output):
        if config.low_rank:
            model = wrapping.write(model, config, job, adapter)
        save_folder(model, job.parent, job.output)
        if config.low_rank:
            shutil.move(adapter, job.output / adapters.FOLDER)
    check_changed(parent_hash, hash_weights(job.output), steps, config.learning_rate)


def training_fingerprint(config: TrainingSettings, seed: int, *parts: Any) -> str:
    """Identity of a training: a state saved under another one is never continued from."""
    return content_id("training", config.model_dump(mode="json", exclude={"save_every"}), seed, *parts)


def length_limit(config: TrainingSettings, folder: Path) -> int:
    """Tokens a sequence may have: ``max_length``, or the model's context where that is shorter."""
    return min(config.max_length, context_length(folder) or config.max_length)


def check_space(config: TrainingSettings, job: TrainingJob) -> None:
    """Raise StageFailed now where the disk cannot hold what this training will write."""
    states = isinstance(config.save_every, int) and config.method == "full"
    check_disk(job.output, required_bytes(job.parent, save_state=states))


def first_batch_loss(trainer: Any) -> float:
    """Loss of the first training batch through the trainer's own loss path: no gradient, no dropout."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        loss = float(trainer.compute_loss(trainer.model, batch))
    trainer._metrics["eval"].clear()
    return loss


def arithmetic(config: TrainingSettings, job: TrainingJob | None = None) -> Tolerance:
    """The tolerance that the arithmetic of ``config`` on this machine needs, and ``job``.

    An adapter that goes on is not rounded, while the parent's weights were when they were written.
    """
    rounded = job is not None and job.base is not None and stored_dtype(job.parent) != "F32"
    return BFLOAT16 if rounded or mixed_precision(device(), config.precision) else FLOAT32


def stop_if_not_finite(loss: Any, step: int) -> None:
    """Raise StageFailed where a loss is NaN or infinite."""
    value = float(loss)
    if not math.isfinite(value):
        raise StageFailed(
            f"the loss is {value} at step {step}; lower train.learning_rate or train.beta, or set "
            "train.max_grad_norm to 1.0 or less, and run again"
        )


def loss_figures(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """``train_loss`` is the mean over the last tenth of the steps, ``train_loss_first`` the first step's."""
    if not history:
        return {}
    losses = [entry["loss"] for entry in history]
    last = losses[-math.ceil(len(losses) / 10) :]
    return {"train_loss": sum(last) / len(last), "train_loss_first": losses[0], "steps": float(len(losses))}
