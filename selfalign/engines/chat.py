"""The one way a conversation (or a plain text) becomes tokens: sampling, scoring and training all use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfalign.errors import BadInput, ModelError
from selfalign.types import Message


def encode_chat(tokenizer: Any, messages: Sequence[Message], answer_prefix: str = "") -> tuple[int, ...]:
    """Token ids of the chat-templated ``messages`` with the generation prompt, then ``answer_prefix``.

    Raises:
        ModelError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; use an instruction-tuned model, or add a "
            f"chat_template.jinja to the folder"
        )
    text = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if answer_prefix:
        ids = ids + tokenizer(answer_prefix, add_special_tokens=False)["input_ids"]
    return tuple(int(token) for token in ids)


def encode_plain(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of ``text`` as the tokenizer writes any text: its start token where it adds one, no end token."""
    ids = [int(token) for token in tokenizer(text)["input_ids"]]
    return tuple(ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids)


class ChatEncoder:
    """The part of protocols.Engine that needs the tokenizer of the policy's folder and nothing else."""

    _tokenizer: Any

    def encode_prompt(self, messages: Sequence[Message], answer_prefix: str = "") -> tuple[int, ...]:
        """See protocols.Engine; raises ModelError for a tokenizer without a chat template."""
        return encode_chat(self._tokenizer, messages, answer_prefix)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """See protocols.Engine."""
        return encode_plain(self._tokenizer, text)


def encode_choice(tokenizer: Any, choice: str) -> tuple[int, ...]:
    """Token ids of ``choice`` as what follows a prompt; raises BadInput where it has none."""
    tokens = tokenizer(choice, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise BadInput(f"choice {choice!r}: has no tokens; give a text that is not empty")
    return tuple(int(token) for token in tokens)
