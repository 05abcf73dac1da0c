"""BitDelta (Liu et al., arXiv 2402.10193): a fine-tuned model as its base plus one bit a weight.

Of each matrix W with base B only sign(W - B) and one scale, mean |W - B|, are kept: the scale that
makes the squared error least (section 3.1; the paper's second step, distilling the scales, needs data
and is not done). Tensors that are no matrices (norms, biases), and embeddings and head unless asked,
are kept exactly, and only where training changed them.

It is lossy: restored weights are other weights, with another hash.

    bitdelta.safetensors   NAME.sign (packed bits), NAME.scale, or NAME as it is
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import ModelError
from selfalign.identity import hash_weights
from selfalign.training import tensors
from selfalign.training.tensors import Spec, Weights

#: Below a checkpoint: ``*.safetensors`` in a subfolder are not part of the checkpoint's own weights.
FOLDER = "bitdelta"
FILE = "bitdelta.safetensors"
_SIGN, _SCALE = ".sign", ".scale"
#: Parts of the names of embedding and output layers. Rows of rare tokens hardly move: one scale for all misleads.
_EMBEDDINGS = ("embed", "wte", "wpe", "lm_head")


@dataclass(frozen=True)
class Report:
    """What compressing did. Errors are relative: |restored - W| / |W| and, harder, / |W - B|, over all weights."""

    n_bytes: int
    n_bytes_before: int
    matrices: int
    weight_error: float
    delta_error: float
    #: Hash of the weights that :func:`restore` gives.
    restored_hash: str


def is_signed(name: str, shape: Sequence[int], *, embeddings: bool = False) -> bool:
    """Whether a tensor is kept as one bit a weight: a matrix that is no embedding or head, unless those are asked for."""
    return len(shape) == 2 and (embeddings or not any(part in name for part in _EMBEDDINGS))


def compress(base: Path, checkpoint: Path, target: Path, *, embeddings: bool = False) -> Report:
    """Write ``checkpoint`` as its difference from ``base`` to the file ``target``, flushed to disk.

    Args:
        embeddings: one bit a weight for embeddings and head too, instead of keeping them exactly.

    Raises:
        ModelError: the two do not have the same tensors.
    """
    with tensors.opened(base) as before, tensors.opened(checkpoint) as after:
        if before.specs != after.specs:
            raise ModelError(f"{checkpoint} and {base} are not the same architecture in the same number format")
        specs, signed = _plan(before, after, embeddings)
        errors = _write(target, before, after, specs, signed)
    restored = restored_hash(base, target)
    return Report(
        n_bytes=target.stat().st_size,
        n_bytes_before=sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
        matrices=len(signed),
        weight_error=errors[0],
        delta_error=errors[1],
        restored_hash=restored,
    )


def restore(base: Path, compressed: Path, target: Path) -> str:
    """Write the approximate weights to the file ``target`` (alone in its folder); returns their hash.

    Raises:
        ModelError: ``compressed`` was made against another architecture than ``base``'s.
    """
    with _restored(base, compressed) as (specs, tensor):
        tensors.write(target, specs, tensor, {"approximation": "bitdelta"})
    return hash_weights(target.parent)


def restored_hash(base: Path, compressed: Path) -> str:
    """The hash of what :func:`restore` would write, without writing it."""
    with _restored(base, compressed) as (specs, tensor):
        return tensors.content_hash(specs, tensor)


def _plan(before: Weights, after: Weights, embeddings: bool) -> tuple[dict[str, Spec], list[str]]:
    """What goes into the file, in order, and the names of the matrices that become signs."""
    import torch

    specs: dict[str, Spec] = {}
    signed = []
    for name, spec in after.specs.items():
        if torch.equal(before[name], after[name]):
            continue
        if is_signed(name, spec.shape, embeddings=embeddings):
            signed.append(name)
            specs[name + _SIGN] = Spec("U8", (math.ceil(math.prod(spec.shape) / 8),))
            specs[name + _SCALE] = Spec("F32", (1,))
        else:
            specs[name] = spec
    return specs, signed


def _write(
    target: Path, before: Weights, after: Weights, specs: dict[str, Spec], signed: list[str]
) -> tuple[float, float]:
    """Write the file; returns the relative errors of :class:`Report`."""
    import torch

    lost = moved = whole = 0.0

    def delta(name: str) -> Any:
        return after[name].to(torch.float32) - before[name].to(torch.float32)

    def tensor(name: str) -> Any:
        nonlocal lost, moved
        if name.endswith(_SIGN) and name.removesuffix(_SIGN) in signed:
            return _pack(delta(name.removesuffix(_SIGN)) >= 0)
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in signed:
            change = delta(name.removesuffix(_SCALE)).double()
            scale = change.abs().mean()
            lost += float(((change.abs() - scale) ** 2).sum())
            moved += float((change**2).sum())
            return scale.to(torch.float32).reshape(1)
        return after[name]

    tensors.write(target, specs, tensor, {"kind": "bitdelta"})
    whole = sum(float((after[name].double() ** 2).sum()) for name in after.specs)
    moved += sum(float((delta(name).double() ** 2).sum()) for name in specs if name in after.specs)
    return math.sqrt(lost / whole) if whole else 0.0, math.sqrt(lost / moved) if moved else 0.0


@contextmanager
def _restored(base: Path, compressed: Path) -> Iterator[tuple[dict[str, Spec], Callable[[str], Any]]]:
    import torch

    with tensors.opened(base) as before, tensors.opened(compressed.parent) as kept:
        known = {name.removesuffix(_SIGN).removesuffix(_SCALE) for name in kept.specs} | set(kept.specs)
        if strange := [n for n in kept.specs if n not in before.specs and n.rpartition(".")[0] not in before.specs]:
            raise ModelError(f"{compressed}: holds {strange[0]}, which {base} does not have")

        def tensor(name: str) -> Any:
            if name not in known:
                return before[name]
            if name in kept.specs:
                return kept[name]
            spec = before.specs[name]
            sign = _unpack(kept[name + _SIGN], math.prod(spec.shape)).reshape(spec.shape)
            scale = kept[name + _SCALE]
            change = torch.where(sign, scale, -scale)
            return (before[name].to(torch.float32) + change).to(before[name].dtype)

        yield dict(before.specs), tensor


def _pack(bits: Any) -> Any:
    import numpy as np
    import torch

    return torch.from_numpy(np.packbits(bits.flatten().numpy()))


def _unpack(packed: Any, count: int) -> Any:
    import numpy as np
    import torch

    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count)).bool()
