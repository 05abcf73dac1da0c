"""Turn a quantised GGUF file into a plain float32 Hugging Face folder.

Run as a process of its own (``python -m selfalign.models.convert_gguf GGUF FOLDER``): the 1.2 GB that the
conversion needs at its peak are given back, and transformers' own progress bars stay out of the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: What SmolLM2-Instruct ends an answer with; a chat template without it is not the one this model was trained on.
END_TOKEN = "<|im_end|>"


def convert(gguf: Path, folder: Path) -> None:
    """Write float32 safetensors, config, generation config and tokenizer of ``gguf`` to ``folder``.

    Raises:
        ValueError: the file's tokenizer is not ChatML with ``<|im_end|>`` as end token.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    if tokenizer.eos_token != END_TOKEN or END_TOKEN not in (tokenizer.chat_template or ""):
        raise ValueError(f"end token {tokenizer.eos_token!r}, expected {END_TOKEN} and a chat template that uses it")
    quantised = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    # save_pretrained refuses a model that came from GGUF, so its tensors move into one that knows nothing of it.
    settings = quantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "model_type"):
        settings.pop(key, None)
    with torch.device("meta"):
        plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantised.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = quantised.generation_config
    tokenizer.model_max_length = plain.config.max_position_embeddings
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
