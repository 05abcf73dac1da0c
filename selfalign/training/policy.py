"""The model being trained: loaded from its folder, and written as a whole folder again."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.errors import ModelError
from selfalign.training.checkpoints import stored_dtype
from selfalign.training.settings import QuantiseSettings

#: Files beside the weights that make a folder complete: configs, tokenizer, chat template, custom code, licence.
_KEPT = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "*.py",
    "LICENSE*",
)
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def device() -> Any:
    """Where training runs: CUDA if there is any, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(folder: Path, where: Any = None) -> Any:
    """The model in ``folder`` in float32 (optimizer steps at 1e-6 vanish in bfloat16), on ``where`` or :func:`device`."""
    return _loaded(folder).to(where or device())


def load_quantised(folder: Path, settings: QuantiseSettings) -> Any:
    """The model in ``folder`` with its linear layers in four bits, on :func:`device`; it cannot be trained itself."""
    compute = torch.bfloat16 if device().type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    quantisation = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=settings.type, bnb_4bit_use_double_quant=settings.double,
        bnb_4bit_compute_dtype=compute,
    )  # fmt: skip
    return _loaded(folder, quantization_config=quantisation, device_map={"": device()})


def _loaded(folder: Path, **more: Any) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False, **more
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder}: cannot be loaded as a causal language model: {str(error).splitlines()[0]}"
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``, with a padding token (never attended to; TRL insists on one)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: no usable tokenizer: {str(error).splitlines()[0]}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(folder: Path) -> int | None:
    """``max_position_embeddings`` of the model in ``folder``, where its config has one."""
    try:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no readable config.json ({error}); is this a saved model?") from None
    return int(value) if value else None


def save_folder(model: Any, parent: Path, output: Path) -> None:
    """Write ``model``'s weights in the parent's stored dtype, beside the parent's own configs and tokenizer.

    Copying instead of re-saving keeps tokenizer, chat template and generation config byte for byte,
    and drops what a trainer writes into a config while it runs.
    """
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    model.to(_DTYPES.get(stored_dtype(parent), torch.float32)).save_pretrained(output)
    copy_rest(parent, output)


def copy_rest(parent: Path, output: Path) -> None:
    """Copy to ``output`` what makes the weights there a whole model folder; see ``_KEPT``."""
    for pattern in _KEPT:
        for path in parent.glob(pattern):
            shutil.copyfile(path, output / path.name)
    if (templates := parent / "additional_chat_templates").is_dir():
        shutil.copytree(templates, output / templates.name)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers, TRL and datasets; their errors still raise."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    loggers = [logging.getLogger(name) for name in ("trl", "accelerate", "peft")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
        datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
