"""Prompts' own answers as candidates: nobody sampled them, and the policy only says how likely it finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.identity import content_id, derive_seed
from selfalign.protocols import Engine
from selfalign.stages.conversations import messages_for
from selfalign.types import Candidate, Prompt, TokenSequence

#: Where a demonstration stands among its prompt's samples 0, 1, ...
SAMPLE_IDX = -1
ENGINE = "demonstration"


def with_answer(prompts: Sequence[Prompt]) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt.answer is not None]


def demonstration_id(round: int, prompt_id: str, text: str) -> str:
    """As candidates': all that decides the text."""
    return content_id("demonstration", round, prompt_id, text)


def answer_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of an answer as the policy would have written it, without the end token."""
    return tuple(int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"])


def demonstrations(
    spec: Mapping[str, Any], engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]
) -> list[Candidate]:
    """The candidate of each of ``prompts``, all of which have an answer; ``engine`` gives their log-probabilities."""
    sequences = []
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    for prompt in prompts:
        shown = engine.encode_prompt(messages_for(prompt.text, spec["system_prompt"]))
        sequences.append(TokenSequence(shown, (*answer_ids(tokenizer, prompt.answer or ""), *end)))
    values = engine.log_probs(sequences)
    return [
        Candidate(
            candidate_id=demonstration_id(spec["round"], prompt.prompt_id, prompt.answer or ""),
            prompt_id=prompt.prompt_id,
            round=spec["round"],
            split=spec["split"],
            sample_idx=SAMPLE_IDX,
            weights_hash="",
            engine=ENGINE,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            max_tokens=0,
            seed=derive_seed(spec["run_seed"], spec["round"], prompt.prompt_id, SAMPLE_IDX),
            text=prompt.answer or "",
            token_ids=sequence.completion_ids[: len(sequence.completion_ids) - len(end)],
            n_tokens=len(sequence.completion_ids) - len(end),
            n_prompt_tokens=len(sequence.prompt_ids),
            finish_reason="stop",
            end_token_id=tokenizer.eos_token_id,
            logprob=float(value.sum()),
            origin="demonstration",
        )
        for prompt, sequence, value in zip(prompts, sequences, values, strict=True)
    ]
