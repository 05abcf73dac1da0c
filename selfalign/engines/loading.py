"""A model folder becomes a model and a tokenizer in memory, in the number format that suits the hardware."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from selfalign.engines.attention import GROUPED_SDPA, register_grouped_sdpa
from selfalign.engines.packed_linear import pack_linears
from selfalign.errors import ConfigError, ModelError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: CPU flags that make bfloat16 products faster than float32 ones; without them they are 5 times slower.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_SMALL_MODEL = 1_000_000_000
#: For architectures that name no window (state-space models).
_NO_WINDOW = 1 << 30


def choose_device(device: str) -> str:
    """ "auto" is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: '{device}' was asked for, but torch sees no CUDA device; set device to auto or cpu")
    return device


def choose_dtype(dtype: str, device: str, parameters: int, cpu_flags: Iterable[str]) -> str:
    """ "auto" is bfloat16 on CUDA that has it, otherwise float32, but bfloat16 for large models on CPUs made for it.

    Small models stay in float32 on a CPU: they fit, and their log-probabilities (8 bits of mantissa in
    bfloat16) would be too coarse to compare with a trainer's.
    """
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise ConfigError(f"dtype: '{dtype}' is unknown; known: auto, {', '.join(_DTYPES)}")
        return dtype
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    fast = not set(_BF16_FLAGS).isdisjoint(cpu_flags)
    return "bfloat16" if device == "cpu" and fast and parameters > _SMALL_MODEL else "float32"


def read_cpu_flags() -> list[str]:
    """Flags of the first CPU; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])


def count_parameters(folder: Path) -> int:
    """Numbers in the folder's safetensors files, from their headers."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def load(folder: Path, dtype: str, device: str, attention: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """Model (eval mode, on ``device``) and tokenizer of ``folder``; nothing is looked up on a hub.

    Raises:
        ModelError: the folder cannot be loaded.
    """
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=_DTYPES[dtype], attn_implementation=attention, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a causal language model: {one_line(error)}") from None
    if attention == "sdpa" and getattr(model, "_supports_attention_backend", False):
        register_grouped_sdpa()
        model.set_attn_implementation(GROUPED_SDPA)
    model = model.to(device).eval()
    pack_linears(model)
    return model, tokenizer


def load_without_weights(folder: Path, trust_remote_code: bool) -> tuple[Any, Any, Any]:
    """Tokenizer, config and generation config of ``folder``, for engines that read the weights themselves.

    Raises:
        ModelError: one of them cannot be read.
    """
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        config = AutoConfig.from_pretrained(folder, **options)
        if (folder / "generation_config.json").is_file():
            return tokenizer, config, GenerationConfig.from_pretrained(folder, local_files_only=True)
        return tokenizer, config, GenerationConfig.from_model_config(config)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be read as a causal language model: {one_line(error)}") from None


def end_token_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends an answer, by the generation config (or None) and the tokenizer."""
    configured = generation_config.eos_token_id if generation_config else None
    ids = configured if isinstance(configured, list | tuple) else [configured]
    return tuple(sorted({int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None}))


def context_length(config: Any) -> int:
    """The model's window in tokens."""
    text_config = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if value := getattr(text_config, name, None):
            return int(value)
    return _NO_WINDOW


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
