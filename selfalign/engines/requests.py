"""What engines ask of their input and of what a model made of it, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfalign.errors import BadInput, StageFailed
from selfalign.types import Completion


def check_window(what: str, length: int, wanted: int, wanted_name: str, window: int) -> None:
    """Raises BadInput: an empty prompt, or one of ``length`` tokens that does not leave ``wanted`` of the window."""
    if length == 0:
        raise BadInput(f"{what}: the prompt is empty; give at least one token")
    if length + wanted > window:
        raise BadInput(
            f"{what}: {length} prompt tokens and {wanted} of {wanted_name} exceed the model's window of "
            f"{window}; shorten the prompt or ask for fewer tokens"
        )


def refuse_nan(values: Sequence[float]) -> None:
    """-inf is a legitimate log-probability; NaN means that the forward pass went wrong (StageFailed)."""
    if any(value != value for value in values):
        raise StageFailed(
            "the model's output is not a number (NaN): weights or number format are at fault; try dtype float32, and "
            "check the checkpoint"
        )


def as_completions(tokenizer: Any, prompt_lengths: Sequence[int], samples: Sequence[Any]) -> list[Completion]:
    """``samples`` (decoding.Sample) with their text, which is without special tokens."""
    texts = tokenizer.batch_decode(
        [sample.token_ids for sample in samples], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [
        Completion(
            text,
            s.token_ids,
            "length" if s.end_token_id is None else "stop",
            s.end_token_id,
            s.log_prob,
            length,
        )
        for length, s, text in zip(prompt_lengths, samples, texts, strict=True)
    ]
