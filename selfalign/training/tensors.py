"""Weights tensor by tensor: read, written and hashed without ever holding a whole model.

Only safetensors is read and written. Hashes are those of :func:`selfalign.identity.hash_weights`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import ModelError
from selfalign.identity import canonical

#: safetensors' name of a number format -> torch's.
_TORCH_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "U8": "uint8"}


@dataclass(frozen=True)
class Spec:
    """What a tensor is; ``dtype`` is safetensors' name, e.g. "F32"."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        import math

        return math.prod(self.shape) * int(torch_dtype(self.dtype).itemsize)


def torch_dtype(name: str) -> Any:
    """Raises ModelError for a format that is not a plain float."""
    import torch

    if name not in _TORCH_DTYPES:
        raise ModelError(f"weights of format {name} cannot be handled here; known: {', '.join(_TORCH_DTYPES)}")
    return getattr(torch, _TORCH_DTYPES[name])


class Weights:
    """The tensors of a folder's ``*.safetensors`` files, read one at a time. See :func:`opened`."""

    def __init__(self, specs: Mapping[str, Spec], handles: Mapping[str, Any]) -> None:
        self.specs = specs
        self._handles = handles

    def __getitem__(self, name: str) -> Any:
        return self._handles[name].get_tensor(name)


@contextmanager
def opened(folder: Path) -> Iterator[Weights]:
    """The weights directly in ``folder``.

    Raises:
        ModelError: there are none, or a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors weights here")
    specs: dict[str, Spec] = {}
    handles: dict[str, Any] = {}
    with ExitStack() as stack:
        for file in files:
            try:
                handle = stack.enter_context(safe_open(str(file), framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file}: not a readable safetensors file ({error}); copy it again") from None
            for name in handle.keys():  # noqa: SIM118 (not a mapping)
                part = handle.get_slice(name)
                specs[name] = Spec(part.get_dtype(), tuple(part.get_shape()))
                handles[name] = handle
        yield Weights(specs, handles)


def write(path: Path, specs: Mapping[str, Spec], tensor: Callable[[str], Any], metadata: Mapping[str, str]) -> None:
    """One safetensors file at ``path``, flushed to disk; ``tensor`` gives each one as its bytes are due."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, spec in specs.items():
        header[name] = {
            "dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, offset + spec.n_bytes]
        }  # fmt: skip
        offset += spec.n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for name, spec in specs.items():
            data = as_bytes(tensor(name))
            if len(data) != spec.n_bytes:
                raise ModelError(f"{path}: {name} has {len(data)} bytes, its shape needs {spec.n_bytes}")
            handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def content_hash(specs: Mapping[str, Spec], tensor: Callable[[str], Any]) -> str:
    """What ``hash_weights`` would say of a folder with these tensors, without writing it."""
    digest = hashlib.sha256()
    for name in sorted(specs):
        spec = specs[name]
        digest.update(canonical([name, spec.dtype, list(spec.shape)]).encode())
        digest.update(as_bytes(tensor(name)))
    return digest.hexdigest()


def as_bytes(tensor: Any) -> memoryview:
    """The tensor's bytes as safetensors stores them, without a copy where it is contiguous on the CPU."""
    import torch

    flat = tensor.detach().cpu().contiguous().view(-1)
    return memoryview(flat.view(torch.uint8).numpy())
