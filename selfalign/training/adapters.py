"""A round's LoRA adapter beside its merged weights, and the merged weights from parent and adapter again.

The trainer merges the adapter (weights + B A alpha / r) and also keeps it as PEFT writes it. Doing the
same sum again, on the same kind of processor, gives the same bits; the caller holds the hash against
the original's and keeps the full weights where it differs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfalign.errors import ModelError
from selfalign.training import tensors
from selfalign.training.tensors import Spec, Weights

#: Below a checkpoint: ``*.safetensors`` in a subfolder are not part of the checkpoint's own weights.
FOLDER = "adapter"
_CONFIG = "adapter_config.json"
#: What PEFT puts before a module's name in the base model.
_PREFIX = "base_model.model."


def save(model: Any, folder: Path) -> None:
    """Write the adapter of a PEFT model to ``folder``, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    # "auto" would ask the hub whether the embeddings were resized.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def is_there(checkpoint: Path) -> bool:
    """Whether ``checkpoint`` has an adapter."""
    folder = checkpoint / FOLDER
    return (folder / _CONFIG).is_file() and any(folder.glob("*.safetensors"))


def rebuilt_hash(parent: Path, checkpoint: Path) -> str:
    """The weights hash that :func:`rebuild` would give; writes nothing.

    Raises:
        ModelError: as :func:`rebuild`.
    """
    return str(_with_merged(parent, checkpoint, tensors.content_hash))


def rebuild(parent: Path, checkpoint: Path, target: Path) -> None:
    """Write ``parent``'s weights with ``checkpoint``'s adapter merged to the file ``target``.

    Raises:
        ModelError: no adapter, or one that does not fit the parent.
    """
    _with_merged(parent, checkpoint, lambda specs, tensor: tensors.write(target, specs, tensor, {}))


def _with_merged(parent: Path, checkpoint: Path, use: Callable[[dict[str, Spec], Callable[[str], Any]], Any]) -> Any:
    """Call ``use`` with the merged model's tensors, each made when it is asked for."""
    import torch

    from selfalign.training.checkpoints import stored_dtype

    if not is_there(checkpoint):
        raise ModelError(f"{checkpoint / FOLDER}: no adapter here")
    stored = stored_dtype(parent)
    dtype = tensors.torch_dtype(stored)
    scaling = _scaling(checkpoint / FOLDER)
    with tensors.opened(parent) as base, tensors.opened(checkpoint / FOLDER) as adapter:
        factors = _factors(base, adapter)

        def tensor(name: str) -> Any:
            weight = base[name].to(torch.float32)
            if name in factors:
                a, b = (adapter[part].to(torch.float32) for part in factors[name])
                weight += (b @ a) * scaling
            return weight.to(dtype)

        return use({name: Spec(stored, spec.shape) for name, spec in base.specs.items()}, tensor)


def _scaling(folder: Path) -> float:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if config.get("use_rslora") or config.get("use_dora") or config.get("rank_pattern"):
            raise ModelError(f"{folder}: an adapter of another kind than plain LoRA")
        return float(config["lora_alpha"] / config["r"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / _CONFIG}: cannot be read ({error})") from None


def _factors(base: Weights, adapter: Weights) -> dict[str, tuple[str, str]]:
    """Weight name in the base -> names of its A and B."""
    found = {}
    for name in adapter.specs:
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        other = name.replace(".lora_A.", ".lora_B.")
        if f"{module}.weight" not in base.specs or other not in adapter.specs:
            raise ModelError(f"the adapter changes {module}, which the parent does not have")
        found[f"{module}.weight"] = (name, other)
    if 2 * len(found) != len(adapter.specs):
        raise ModelError("the adapter holds more than LoRA's A and B matrices")
    return found
