"""Identity is content, never location: row ids, seeds and the hashes of weights and files."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from selfalign.errors import ModelError

_CHUNK = 1 << 22
#: Files that change what a model is shown or which tokens it sees, beside the weights.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError on what has no canonical form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(kind: str, *parts: Any) -> str:
    """128-bit hex id of ``parts`` (JSON-able), separate for each ``kind``."""
    return hashlib.sha256(canonical([kind, *parts]).encode()).hexdigest()[:32]


def derive_seed(run_seed: int, *parts: Any) -> int:
    """Seed in [0, 2**63) from hash(run seed, round, prompt, sample ...): independent of order and batches."""
    digest = hashlib.sha256(canonical(["seed", run_seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_weights(folder: Path) -> str:
    """SHA-256 over every tensor's name, dtype, shape and bytes, in order of name.

    Independent of how tensors are sharded and of file metadata. Only safetensors is read: other
    formats execute code on loading.

    Raises:
        ModelError: no ``*.safetensors`` in ``folder``, or one that is cut short.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors weights here; save the model with save_pretrained()")
    tensors: dict[str, tuple[Path, str, list[int], int, int]] = {}
    for path in files:
        size = path.stat().st_size
        with path.open("rb") as handle:
            try:
                (header_length,) = struct.unpack("<Q", handle.read(8))
                header = json.loads(handle.read(header_length))
            except (struct.error, ValueError, MemoryError, OverflowError) as error:
                raise ModelError(f"{path}: not a readable safetensors file ({error}); copy it again") from None
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (8 + header_length + offset for offset in entry["data_offsets"])
            if end > size:
                raise ModelError(f"{path}: cut short, tensor {name} is missing bytes; copy it again")
            tensors[name] = (path, entry["dtype"], entry["shape"], begin, end)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        path, dtype, shape, begin, end = tensors[name]
        digest.update(canonical([name, dtype, shape]).encode())
        with path.open("rb") as handle:
            handle.seek(begin)
            left = end - begin
            while left and (chunk := handle.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
    return digest.hexdigest()


def hash_tokenizer(folder: Path) -> str:
    """Hash of the tokenizer and chat-template files present in ``folder``."""
    found = {name: hash_file(folder / name) for name in _TOKENIZER_FILES if (folder / name).is_file()}
    return content_id("tokenizer", found)
