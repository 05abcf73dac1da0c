"""What ``train.method`` makes of the parent: the model that TRL wraps, PEFT's config for it, and plain weights again.

Every method here starts at the parent's own log-probabilities and ends as a whole model. The reference is never
derived from the policy: with PiSSA, and with an adapter that goes on over rounds, "the adapter switched off" is not
the parent, and TRL's copy of a PiSSA adapter would even change the policy (it decomposes the weights again).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfalign.errors import GuardFailed
from selfalign.identity import hash_weights
from selfalign.protocols import TrainingJob
from selfalign.training import adapters
from selfalign.training.policy import load_model, load_quantised
from selfalign.training.settings import TrainingSettings

#: Below a training's scratch folder: the adapter before the first step. PEFT names an adapter after the last part.
_START = Path("pissa") / "start"


def adapter_config(config: TrainingSettings) -> Any:
    """PEFT's config of the adapter, or None for the method full.

    LoRA and QLoRA begin with B = 0, so that step 0 is the parent exactly (arXiv 2106.09685, section 4.1); so does DoRA,
    with magnitudes that are the weights' own norms (arXiv 2402.09353, section 4.1). PiSSA begins with the r largest
    singular directions and leaves the rest, W - B A alpha / r, in the frozen weights (arXiv 2404.02948, section 3).
    """
    if not config.low_rank:
        return None
    from peft import LoraConfig

    lora = config.lora
    all_linear = lora.targets == "all-linear"
    initial: Any = True
    if config.method == "pissa":
        initial = "pissa" if lora.niter is None else f"pissa_niter_{lora.niter}"
    return LoraConfig(
        r=lora.r,
        lora_alpha=config.alpha,
        lora_dropout=lora.dropout,
        # PEFT would read a string as a pattern for whole paths.
        target_modules=[lora.targets] if isinstance(lora.targets, str) and not all_linear else lora.targets,
        exclude_modules=None if all_linear else ["lm_head"],
        use_rslora=lora.rslora,
        use_dora=config.method == "dora",
        init_lora_weights=initial,
        task_type="CAUSAL_LM",
    )


def load_start(config: TrainingSettings, job: TrainingJob) -> Any:
    """The model that TRL is to wrap with :func:`adapter_config`."""
    folder = job.base or job.parent
    return load_quantised(folder, config.quantised) if config.quantised else load_model(folder)


def go_on(model: Any, job: TrainingJob) -> None:
    """Give the wrapped model the parent's adapter, where training goes on with it."""
    if job.base is not None:
        model.load_adapter(str(job.parent / adapters.FOLDER), "default", is_trainable=True)


def refuse_derived_reference(config: TrainingSettings, job: TrainingJob, args: Any) -> None:
    """Raise GuardFailed where TRL would take its reference from the policy, and that would be another model's.

    ``args`` are TRL's; those of trainers without a reference have no ``precompute_ref_log_probs``.
    """
    if getattr(args, "precompute_ref_log_probs", True) or (config.method != "pissa" and job.base is None):
        return
    what = "PiSSA moves part of the weights into the adapter" if config.method == "pissa" else "the adapter goes on"
    raise GuardFailed(
        f"this trainer would take its reference from the policy with the adapter switched off, which is not the parent "
        f"({what}); give it the reference's log-probabilities as columns (precompute_ref_log_probs)"
    )


def keep_start(model: Any, scratch: Path) -> str | None:
    """Keep a PiSSA adapter as it is before the first step, for :func:`write`; returns its hash, None for others.

    The hash belongs to the training's identity: frozen weights are what this start left over, so a state that was
    saved after another decomposition (another kind of processor) must not be continued from.
    """
    peft_config = getattr(model, "peft_config", {}).get("default")
    if peft_config is None or not str(peft_config.init_lora_weights).startswith("pissa"):
        return None
    adapters.save(model, scratch / _START)
    return hash_weights(scratch / _START)


def write(model: Any, config: TrainingSettings, job: TrainingJob, folder: Path) -> Any:
    """Write the adapter to ``folder`` and return the plain model: the weights it was trained on, plus the adapter.

    What is written is relative to whole weights, those of ``job.base`` or the parent: a PiSSA adapter becomes a plain
    LoRA of rank 2r, (B A - B_0 A_0). Merging happens on the CPU, so that it can be repeated bit for bit wherever the
    run is continued.
    """
    if not hasattr(model, "peft_config"):
        raise GuardFailed(f"train.method is {config.method}, but this trainer trained without an adapter")
    pissa = config.method == "pissa"
    if not config.quantised:  # four-bit weights stay where they are
        model = model.to("cpu")
    adapters.save(model, folder, start=job.scratch / _START if pissa else None)
    base = job.base or job.parent
    adapters.write_origin(folder, adapters.Origin(hash_weights(base), config.adapter_shape()))
    if pissa or config.quantised:
        # The weights in memory are not the parent's: a part of them is in the adapter, or they have four bits.
        from peft import PeftModel

        model = PeftModel.from_pretrained(load_model(base, "cpu"), str(folder))
    return model.merge_and_unload()
