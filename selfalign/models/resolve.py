"""A model's name in a config becomes a folder on disk, and a folder says what it holds."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import ModelError
from selfalign.models.embedded import EMBEDDED_NAME, fetch, is_complete
from selfalign.user_cache import cache_root

#: Names that mean the embedded default model.
_EMBEDDED_NAMES = (EMBEDDED_NAME, "embedded")
#: What a snapshot needs; pickled weights (*.bin, *.pt) are never taken.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
#: safetensors' names of number formats as configs and torch write them.
_DTYPE_NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "F8_E4M3": "float8_e4m3fn"}
_REMEDY = f"give a model folder, or use the embedded model ('{EMBEDDED_NAME}')"


@dataclass(frozen=True)
class ModelInfo:
    """What a folder's config and weight headers say; ``dtype`` is that of most numbers, ``bytes`` of all weights."""

    parameters: int
    context_length: int
    n_layers: int
    hidden_size: int
    vocab_size: int
    dtype: str
    bytes: int


def resolve_model(name: str, *, progress: bool = True) -> Path:
    """The folder of the embedded model, of a path, or of a hub name (downloaded into the hub's cache).

    Raises:
        ModelError: the folder is incomplete, does not exist, or the hub cannot give the model.
    """
    if name in _EMBEDDED_NAMES:
        return fetch(progress=progress)
    path = Path(name).expanduser()
    if path.is_dir():
        return check_folder(path)
    if _looks_like_path(name):
        raise ModelError(f"{name}: no such folder (looked for {path.absolute()}); {_REMEDY}")
    return check_folder(_from_hub(name))


def local_model(name: str) -> Path | None:
    """The folder that :func:`resolve_model` would give, if it is on this machine; nothing is fetched."""
    if name in _EMBEDDED_NAMES:
        folder = cache_root() / "models" / EMBEDDED_NAME
        return folder if is_complete(folder) else None
    path = Path(name).expanduser()
    if path.is_dir() or _looks_like_path(name):
        return path if path.is_dir() else None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=True))
    except Exception:  # not in the cache, or no hub name at all: the library's errors are not one family
        return None


def check_folder(path: Path) -> Path:
    """``path``, if it holds a config, a tokenizer and safetensors weights.

    Raises:
        ModelError: the first thing that is missing.
    """
    if not (path / "config.json").is_file():
        raise ModelError(f"{path}: has no config.json; give a folder written by save_pretrained()")
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in path.glob(pattern))
        found = f" (only {pickled[0]}: pickled weights can run code and are not read)" if pickled else ""
        raise ModelError(f"{path}: has no *.safetensors weights{found}; save the model with save_pretrained()")
    if not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(f"{path}: has no tokenizer files; save the tokenizer there with save_pretrained()")
    return path


def describe_model(path: Path) -> ModelInfo:
    """Sizes of the model in ``path``, from its config and weight headers; no weights are read.

    Raises:
        ModelError: a file is missing or unreadable.
    """
    config = _read_config(path)
    counts: Counter[str] = Counter()
    n_bytes = 0
    for file in sorted(path.glob("*.safetensors")):
        for entry in _read_header(file):
            counts[entry["dtype"]] += math.prod(entry["shape"])
            n_bytes += entry["data_offsets"][1] - entry["data_offsets"][0]
    if not counts:
        raise ModelError(f"{path}: has no *.safetensors weights; save the model with save_pretrained()")
    dtype = counts.most_common(1)[0][0]
    return ModelInfo(
        parameters=counts.total(),
        context_length=_first(config, path, "max_position_embeddings", "n_positions", "max_seq_len"),
        n_layers=_first(config, path, "num_hidden_layers", "n_layer"),
        hidden_size=_first(config, path, "hidden_size", "n_embd", "d_model"),
        vocab_size=_first(config, path, "vocab_size"),
        dtype=_DTYPE_NAMES.get(dtype, dtype.lower()),
        bytes=n_bytes,
    )


def _read_config(path: Path) -> dict[str, Any]:
    """The language model's config: that of the text part, where a model has several."""
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return {**config, **(config.get("text_config") or {})}
    except FileNotFoundError:
        raise ModelError(f"{path}: has no config.json; give a folder written by save_pretrained()") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path / 'config.json'}: cannot be read ({error}); copy it again") from None


def _read_header(file: Path) -> list[dict[str, Any]]:
    """The tensor entries of a safetensors file (8 bytes length, then JSON)."""
    try:
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        return [entry for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, AttributeError, MemoryError, OverflowError) as error:
        raise ModelError(f"{file}: not a readable safetensors file ({error}); copy it again") from None


def _first(config: dict[str, Any], path: Path, *keys: str) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelError(f"{path / 'config.json'}: names no {keys[0]}; is this a causal language model?")


def _looks_like_path(name: str) -> bool:
    first, separator, _ = name.replace(os.sep, "/").partition("/")
    return name.startswith((".", "/", "~")) or bool(separator and Path(first).exists())


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    # Most specific first: the hub's errors inherit from one another and from OSError.
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except HFValidationError:
        reason = "is neither a folder nor a hub name (owner/model)"
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        reason = "is not in the local hub cache, and the hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private (log in with 'hf auth login')"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        reason = f"the hub answered {status} (a gated model needs 'hf auth login' and accepted terms)"
    except Exception as error:
        # The HTTP library's errors are not one family across versions; none of them is worth a traceback.
        reason = f"could not be downloaded ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    raise ModelError(f"model '{name}': {reason}; {_REMEDY}")
