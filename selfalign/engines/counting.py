"""An engine without weights: what it is asked is counted, and its answers are filler. For plans."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from selfalign.engines.batching import refilled_batches
from selfalign.prefixes import shared_prefix_length
from selfalign.types import Completion, GenerationRequest, Message, SamplingParams, TokenSequence


class CountingEngine:
    """See protocols.Engine. ``read`` and ``written`` are the tokens that a real engine would have read and sampled.

    A text has a token for every ``characters_a_token`` characters, and a conversation ``extra_tokens`` more; equal
    beginnings are equal tokens, so that a prefix that prompts share is counted once, as it is read once. Sampled
    answers have ``answer_share`` of the tokens they may have.
    """

    name = "counting"
    weights_hash = ""
    tokenizer_hash = ""

    def __init__(
        self,
        context_length: int,
        characters_a_token: float,
        extra_tokens: int = 0,
        answer_share: float = 1.0,
        *,
        max_rows: int = 256,
        max_num_seqs: int = 128,
        token_budget: int = 32768,
    ) -> None:
        self.context_length = context_length
        self.characters_a_token = characters_a_token
        self._extra = extra_tokens
        self._answer_share = answer_share
        self._max_rows = max_rows
        self._max_num_seqs = max_num_seqs
        self._token_budget = token_budget
        self.read = 0
        self.written = 0

    def encode_prompt(self, messages: Sequence[Message], answer_prefix: str = "") -> tuple[int, ...]:
        """See protocols.Engine."""
        return (0,) * self._extra + self.encode_text("".join(m["content"] for m in messages) + answer_prefix)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """See protocols.Engine."""
        size = self.characters_a_token
        cuts = [round(number * size) for number in range(round(len(text) / size) + 1)]
        return tuple(zlib.crc32(text[start:stop].encode("utf-8", "replace")) for start, stop in pairwise(cuts))

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        """See protocols.Engine."""
        return refilled_batches(
            lengths, samples=samples, max_tokens=max_tokens, max_rows=self._max_rows, together=self._max_num_seqs,
            token_budget=self._token_budget,
        )  # fmt: skip

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        """See protocols.Engine; a prompt is read once for all of its samples."""
        size = max(1, round(params.max_tokens * self._answer_share))
        answers = []
        for request in requests:
            length = len(self.encode_prompt(request.messages))
            self.read += length
            self.written += size * len(request.seeds)
            answers.append(
                tuple(
                    Completion(self.filler(size, seed), (0,) * size, "stop", None, 0.0, length)
                    for seed in request.seeds
                )
            )
        return answers

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        """See protocols.Engine."""
        self.read += sum(map(len, prompt_ids))
        if len(prompt_ids) > 1:
            self.read -= shared_prefix_length(prompt_ids) * (len(prompt_ids) - 1)
        return np.zeros((len(prompt_ids), len(choices)))

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        """See protocols.Engine."""
        self.read += sum(len(s.prompt_ids) + len(s.completion_ids) for s in sequences)
        return [np.zeros(len(s.completion_ids)) for s in sequences]

    def close(self) -> None:
        """See protocols.Engine."""

    def filler(self, tokens: int, seed: int) -> str:
        """A text of about so many tokens; texts of two seeds differ from their beginning on."""
        length = round(tokens * self.characters_a_token)
        start = f"{seed:x} "[:length]
        return start + ("text " * (length // 5 + 1))[: length - len(start)]
