"""What an adapter and a training weigh, from the shapes of the model's stored tensors. Pure; nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from selfalign.errors import ModelError
from selfalign.training.bitdelta import is_signed
from selfalign.training.checkpoints import headers
from selfalign.training.settings import TrainingSettings

Shapes = Mapping[str, tuple[int, ...]]

#: Float32 weights, their gradients, and the optimizer's moments: bytes a trained weight.
_WEIGHT, _GRADIENT = 4, 4
_MOMENTS = {"adamw_torch": 8, "rmsprop": 4}
#: Four bits, and a scale for every 64 weights: 32 bits, or 8 and one of 32 for 256 of them (arXiv 2305.14314, sec. 3).
_QUANTISED, _QUANTISED_TWICE = (4 + 32 / 64) / 8, (4 + 8 / 64 + 32 / (64 * 256)) / 8


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of the weights in ``folder``; only headers are read."""
    return {name: tuple(entry["shape"]) for name, entry in headers(folder)}


def adapted(config: TrainingSettings, model: Shapes) -> dict[str, tuple[int, int]]:
    """The matrices [out, in] that get an adapter, by name; none with the method full."""
    if not config.low_rank:
        return {}
    return {
        name: (shape[0], shape[1])
        for name, shape in model.items()
        if is_signed(name, shape) and any(_called(name, target) for target in _targets(config))
    }


def _targets(config: TrainingSettings) -> list[str]:
    targets = config.lora.targets
    return [targets] if isinstance(targets, str) else targets


def _called(name: str, target: str) -> bool:
    """Whether the module of the tensor ``name`` is one that ``target`` names, as PEFT matches them."""
    return target == "all-linear" or f".{name.rpartition('.')[0]}".endswith(f".{target}")


def check_adapter(config: TrainingSettings, model: Shapes) -> None:
    """Hold the adapter's settings against the model that it is for.

    Raises:
        ModelError: no module is called as ``lora.targets`` says, or one is too small for PiSSA's rank.
    """
    if not config.low_rank or not model:
        return
    linear = [name for name, shape in model.items() if is_signed(name, shape)]
    if missing := [target for target in _targets(config) if not any(_called(name, target) for name in linear)]:
        known = sorted({name.rpartition(".")[0].rpartition(".")[2] for name in linear})
        raise ModelError(
            f"lora.targets: the model has no linear module called {', '.join(missing)}; it has {', '.join(known)}"
        )
    name, shape = min(adapted(config, model).items(), key=lambda item: min(item[1]))
    least = min(shape)
    if config.method == "pissa" and config.lora.r > least:
        raise ModelError(
            f"lora.r is {config.lora.r}, but {name} has only {least} singular directions for PiSSA to begin with; "
            f"set lora.r to {least} or less, or use method lora"
        )


def adapter_weights(config: TrainingSettings, model: Shapes, *, kept: bool = False) -> int:
    """Numbers in the adapter; ``kept``: as it is kept beside a checkpoint, where a PiSSA adapter has twice the rank."""
    rank = config.lora.r * (2 if kept and config.method == "pissa" else 1)
    magnitudes = 1 if config.method == "dora" else 0
    return sum(rank * (rows + columns) + magnitudes * rows for rows, columns in adapted(config, model).values())


def training_bytes(config: TrainingSettings, model: Shapes) -> int:
    """Memory for weights, gradients and the optimizer while training; activations come on top, and grow with the batch.

    In full training every weight is trained; with an adapter the weights are only held, for QLoRA in four bits.
    """
    total = sum(math.prod(shape) for shape in model.values())
    a_trained_weight = _WEIGHT + _GRADIENT + _MOMENTS[config.optimizer]
    if not config.low_rank:
        return total * a_trained_weight
    held = float(_WEIGHT * total)
    if config.quantised:
        linear = sum(math.prod(shape) for name, shape in model.items() if is_signed(name, shape))
        held -= linear * (_WEIGHT - (_QUANTISED_TWICE if config.quantised.double else _QUANTISED))
    return int(held) + adapter_weights(config, model) * a_trained_weight
