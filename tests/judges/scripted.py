"""An engine whose answers a test writes down, and rows to judge. It keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from selfalign.protocols import Engine
from selfalign.types import (
    Candidate,
    Completion,
    FinishReason,
    GenerationRequest,
    JudgeItem,
    Message,
    Prompt,
    SamplingParams,
    TokenSequence,
)


@dataclass
class ScriptedEngine(Engine):
    """One token a byte. ``answer`` maps (what is shown, number of the vote) to a text, or to text and finish reason;
    ``choices`` maps what is shown to the log-probabilities of the choices."""

    answer: Callable[[str, int], str | tuple[str, FinishReason]] = lambda shown, vote: ""
    choices: Callable[[str], Sequence[float]] = lambda shown: ()
    context_length: int = 8192
    name: str = "scripted"
    weights_hash: str = "weights"
    requests: list[GenerationRequest] = field(default_factory=list)
    params: list[SamplingParams] = field(default_factory=list)
    calls: int = 0

    def encode_prompt(self, messages: Sequence[Message], answer_prefix: str = "") -> tuple[int, ...]:
        return tuple(("".join(f"[{m['role']}]{m['content']}" for m in messages) + answer_prefix).encode())

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        size = max(1, 2 // samples)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        self.calls += 1
        self.requests += requests
        self.params.append(params)
        return [
            tuple(self._completion(request, vote) for vote in range(len(request.seeds))) for request in requests
        ]  # fmt: skip

    def _completion(self, request: GenerationRequest, vote: int) -> Completion:
        shown = str(request.messages[-1]["content"])
        answer = self.answer(shown, vote)
        text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
        return Completion(text, tuple(text.encode()), reason, None, -1.0, len(self.encode_prompt(request.messages)))

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        self.calls += 1
        return np.array([self.choices(bytes(ids).decode()) for ids in prompt_ids], dtype=np.float64)

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def make_prompt(prompt_id: str = "p0", text: str = "Say hello.", ids: Sequence[str] = (), kwargs: str = "[]") -> Prompt:
    return Prompt(prompt_id, 1, "train", text, "en", "", "test", None, None, tuple(ids), kwargs)


def make_candidate(
    text: str = "Hello.",
    sample_idx: int = 0,
    prompt_id: str = "p0",
    finish_reason: FinishReason = "stop",
    n_tokens: int | None = None,
) -> Candidate:
    size = len(text) if n_tokens is None else n_tokens
    return Candidate(
        f"{prompt_id}-c{sample_idx}", prompt_id, 1, "train", sample_idx, "weights", "scripted", 0.7, 0.9, 0, 64,
        sample_idx, text, tuple(range(size)), size, 5, finish_reason, None, -1.0,
    )  # fmt: skip


def make_items(*texts: str, prompt: Prompt | None = None) -> list[JudgeItem]:
    prompt = prompt or make_prompt()
    return [JudgeItem(prompt, make_candidate(text, i, prompt.prompt_id)) for i, text in enumerate(texts)]
