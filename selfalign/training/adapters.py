"""A round's adapter beside its merged weights, and the merged weights from whole weights and adapter again.

An adapter is LoRA (weights + B A s) or DoRA (that, with every row's norm set to a learnt magnitude), as PEFT writes
it, always relative to the whole weights that its ``origin.json`` names by hash: those of the round before, or of the
round in which an adapter that goes on over rounds began. Doing the trainer's merge again, on the same kind of
processor, gives the same bits; the caller holds the hash against the original's and keeps the full weights where it
differs.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfalign.durable import write_atomic
from selfalign.errors import ModelError
from selfalign.training import tensors
from selfalign.training.tensors import Spec, Weights

#: Below a checkpoint: ``*.safetensors`` in a subfolder are not part of the checkpoint's own weights.
FOLDER = "adapter"
_CONFIG = "adapter_config.json"
_ORIGIN = "origin.json"
#: What PEFT puts before a module's name in the base model.
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Origin:
    """``weights_hash`` is of the weights that the adapter is added to, ``shape`` TrainingSettings.adapter_shape()."""

    weights_hash: str
    shape: Mapping[str, Any]


def save(model: Any, folder: Path, start: Path | None = None) -> None:
    """Write the adapter of a PEFT model to ``folder``, replacing what is there.

    With ``start``, the folder of the same adapter before training, it is written as the difference to that one: a plain
    LoRA of twice the rank, for adapters that began with a part of the weights (PiSSA, arXiv 2404.02948).
    """
    shutil.rmtree(folder, ignore_errors=True)
    # "auto" would ask the hub whether the embeddings were resized.
    model.save_pretrained(
        folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=str(start) if start else None
    )
    (folder / "README.md").unlink(missing_ok=True)


def write_origin(folder: Path, origin: Origin) -> None:
    """Note in an adapter's folder what the adapter is added to."""
    write_atomic(folder / _ORIGIN, json.dumps(asdict(origin)))


def origin(checkpoint: Path) -> Origin | None:
    """What ``checkpoint``'s adapter is added to; None without an adapter, or with one that does not say."""
    try:
        found = json.loads((checkpoint / FOLDER / _ORIGIN).read_text(encoding="utf-8"))
        return Origin(str(found["weights_hash"]), dict(found["shape"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_there(checkpoint: Path) -> bool:
    """Whether ``checkpoint`` has an adapter."""
    folder = checkpoint / FOLDER
    return (folder / _CONFIG).is_file() and any(folder.glob("*.safetensors"))


def rebuilt_hash(base: Path, checkpoint: Path) -> str:
    """The weights hash that :func:`rebuild` would give; writes nothing.

    Raises:
        ModelError: as :func:`rebuild`.
    """
    return str(_with_merged(base, checkpoint, tensors.content_hash))


def rebuild(base: Path, checkpoint: Path, target: Path) -> None:
    """Write ``base``'s weights with ``checkpoint``'s adapter merged to the file ``target``.

    Raises:
        ModelError: no adapter, or one that does not fit ``base``.
    """
    _with_merged(base, checkpoint, lambda specs, tensor: tensors.write(target, specs, tensor, {}))


def _with_merged(folder: Path, checkpoint: Path, use: Callable[[dict[str, Spec], Callable[[str], Any]], Any]) -> Any:
    """Call ``use`` with the merged model's tensors, each made when it is asked for."""
    import torch

    from selfalign.training.checkpoints import stored_dtype

    if not is_there(checkpoint):
        raise ModelError(f"{checkpoint / FOLDER}: no adapter here")
    stored = stored_dtype(folder)
    dtype = tensors.torch_dtype(stored)
    scaling = _scaling(checkpoint / FOLDER)
    with tensors.opened(folder) as base, tensors.opened(checkpoint / FOLDER) as adapter:
        parts = _parts(base, adapter)

        def tensor(name: str) -> Any:
            weight = base[name].to(torch.float32)
            if name in parts:
                weight = _merged(weight, [adapter[part].to(torch.float32) for part in parts[name]], scaling)
            return weight.to(dtype)

        return use({name: Spec(stored, spec.shape) for name, spec in base.specs.items()}, tensor)


def _merged(weight: Any, parts: list[Any], scaling: float) -> Any:
    """W [out, in] with A [r, in], B [out, r] and, for DoRA, the magnitude m [out] (arXiv 2402.09353, eq. 5).

    The operations and their order are those of PEFT's merge, so that every bit is the same.
    """
    import torch

    a, b, *magnitude = parts
    moved = weight + (b @ a) * scaling
    if not magnitude:
        return moved
    return (magnitude[0] / torch.linalg.norm(moved, dim=1)).view(-1, 1) * moved


def _scaling(folder: Path) -> float:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("fan_in_fan_out"):
            raise ModelError(
                f"{folder}: an adapter with ranks of its own or of transposed weights; only whole weights do"
            )
        rank = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
        return float(config["lora_alpha"] / rank)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / _CONFIG}: cannot be read ({error})") from None


def _parts(base: Weights, adapter: Weights) -> dict[str, list[str]]:
    """Weight name in the base -> names of its A, B and, for DoRA, magnitude."""
    found = {}
    for name in adapter.specs:
        if not name.endswith(".lora_A.weight"):
            continue
        path = name.removesuffix(".lora_A.weight")
        module = path.removeprefix(_PREFIX)
        magnitude = f"{path}.lora_magnitude_vector"
        parts = [name, f"{path}.lora_B.weight", *([magnitude] if magnitude in adapter.specs else [])]
        if f"{module}.weight" not in base.specs or parts[1] not in adapter.specs:
            raise ModelError(f"the adapter changes {module}, which the weights below it do not have")
        found[f"{module}.weight"] = parts
    if sum(map(len, found.values())) != len(adapter.specs):
        raise ModelError("the adapter holds more than the matrices of LoRA and the magnitudes of DoRA")
    return found
