"""A rubric read from logits: the expected score over the choices, by one forward pass.

G-Eval (arXiv 2303.16634), section 2: score = sum_i p(s_i) s_i; with the probabilities themselves
instead of an estimate from samples, renormalised over the choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id
from selfalign.judges.rows import row
from selfalign.judges.rubric import load_rubric, require_engine, shown
from selfalign.protocols import JudgeContext
from selfalign.templates import Template
from selfalign.types import JudgeItem, Judgement


def expected_score(
    log_probs: Sequence[float], values: Sequence[float]
) -> tuple[float | None, tuple[float, ...], float]:
    """(sum p_i v_i, p, mass) with p renormalised over the choices and ``mass`` their probability before that.

    Without any mass there is no expectation: (None, zeros, 0).
    """
    top = max(log_probs)
    if top == -math.inf:
        return None, (0.0,) * len(log_probs), 0.0
    weights = [math.exp(value - top) for value in log_probs]
    total = math.fsum(weights)
    shares = tuple(weight / total for weight in weights)
    expected = math.fsum(share * value for share, value in zip(shares, values, strict=True))
    return expected, shares, math.exp(top) * total


class RubricLogitsJudge:
    """One row a candidate. The part of the rubric that all prompts share is read once."""

    name = "rubric_logits"
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["rubric_logits"] = "rubric_logits"
        rubric: str = Field(
            "judges/additive_short", min_length=1, description="name in prompts/, or path of a .j2 file"
        )
        min_mass: float = Field(
            0.0, ge=0, le=1, description="less probability than this on the choices together is a parse_error"
        )

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or has no numbers as choices."""
        self.config = config
        self._context = context
        self._rubric = load_rubric(context, config.rubric)
        self._values = choice_values(self._rubric)
        self.score_range = (min(self._values), max(self._values))
        self.judge_hash = content_id("judge", self.name, self._rubric.hash, config.min_mass)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        engine = require_engine(self._context, self.name)
        return engine.plan([len(self._encode(item)) for item in items], 1, self._longest_choice())

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge. A candidate too long for the model's window gets a "truncated" row."""
        engine = require_engine(self._context, self.name)
        prompts = [self._encode(item) for item in items]
        room = engine.context_length - self._longest_choice()
        fitting = [prompt for prompt in prompts if len(prompt) <= room]
        scores = iter(engine.score_choices(fitting, self._rubric.choices) if fitting else ())
        return [
            self._row(item, [float(value) for value in next(scores)], engine.weights_hash)
            if len(prompt) <= room
            else self._too_long(item, len(prompt), room, engine.weights_hash)
            for item, prompt in zip(items, prompts, strict=True)
        ]

    def _row(self, item: JudgeItem, log_probs: Sequence[float], weights_hash: str) -> Judgement:
        score, shares, mass = expected_score(log_probs, self._values)
        valid = score is not None and mass >= self.config.min_mass
        detail = {"probabilities": dict(zip(self._rubric.choices, shares, strict=True)), "mass": mass}
        return row(
            self, self._context.round, item, "ok" if valid else "parse_error", score=score if valid else None,
            detail=detail, weights_hash=weights_hash,
        )  # fmt: skip

    def _too_long(self, item: JudgeItem, length: int, room: int, weights_hash: str) -> Judgement:
        detail = {"reason": "judge prompt exceeds the window", "n_prompt_tokens": length, "room": room}
        return row(self, self._context.round, item, "truncated", detail=detail, weights_hash=weights_hash)

    def _encode(self, item: JudgeItem) -> tuple[int, ...]:
        engine = require_engine(self._context, self.name)
        return engine.encode_prompt(shown(self._rubric, item), self._rubric.answer_prefix)

    def _longest_choice(self) -> int:
        # A bound that needs no tokenizer: no token is shorter than a byte.
        return max(len(choice.encode()) for choice in self._rubric.choices)


def choice_values(rubric: Template) -> tuple[float, ...]:
    """The numbers that the rubric's choices are; raises PromptFileError where they are none."""
    try:
        values = tuple(float(choice) for choice in rubric.choices)
    except ValueError:
        values = ()
    if len(set(values)) < 2 or not all(map(math.isfinite, values)):
        raise PromptFileError(
            f'{rubric.path}: needs choices that are different numbers, such as ["0", "1", "2"], to be read from logits'
        )
    return values
