"""Candidates that nobody sampled, as long as answers are expected to be, and the engine that counts them. For plans."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign.engines.counting import CountingEngine
from selfalign.preflight import Preflight
from selfalign.sources.draw import draw
from selfalign.stages import generate
from selfalign.stages.context import RunContext
from selfalign.stages.engine import concrete, own_engine
from selfalign.types import Candidate, JudgeItem, Prompt

#: Answers are shorter than max_tokens; used where nothing is known yet.
MEAN_ANSWER_SHARE = 0.7


def engine(context: RunContext, found: Preflight) -> CountingEngine:
    _, settings = concrete(own_engine(context.config.generate.engine), context.config)
    names = ("max_rows", "max_num_seqs", "token_budget")
    limits = {name: value for name in names if (value := getattr(settings, name, None)) is not None}
    return CountingEngine(
        found.model.context_length, found.characters_a_token, found.extra_tokens, MEAN_ANSWER_SHARE, **limits
    )


def drawn(context: RunContext, found: Preflight, round: int) -> Sequence[Prompt]:
    """The prompts of ``round``; held-out ones are those of round 0."""
    if round == 0:
        return found.held_out
    return draw(found.training, context.config.prompts.per_round, round, context.config.seed)


def mean_tokens(sampling: generate.Sampling) -> float:
    return sampling.params.max_tokens * MEAN_ANSWER_SHARE


def filled(context: RunContext, found: Preflight, sampling: generate.Sampling) -> list[list[JudgeItem]]:
    counting = engine(context, found)
    return [
        candidates(counting, prompt, sampling.samples, mean_tokens(sampling))
        for prompt in drawn(context, found, sampling.prompt_round)
    ]


def candidates(engine: CountingEngine, prompt: Prompt, number: int, tokens: float) -> list[JudgeItem]:
    """Candidates of a prompt as long as answers are expected to be, each with a text of its own."""
    size = max(1, round(tokens))
    return [
        JudgeItem(
            prompt,
            Candidate(
                f"{prompt.prompt_id}-{i}", prompt.prompt_id, prompt.round, prompt.split, i, "", engine.name, 0.0, 1.0, 0,
                size, i, engine.filler(size, i), (), size, 0, "stop", None, 0.0,
            ),
        )
        for i in range(number)
    ]  # fmt: skip
