"""A rubric read from logits: the expected score over the choices, by one forward pass.

G-Eval (arXiv 2303.16634), section 2: score = sum_i p(s_i) s_i; with the probabilities themselves
instead of an estimate from samples, renormalised over the choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.judges.comparisons import by_prompt
from selfalign.judges.rows import row
from selfalign.judges.rubric import (
    Further,
    choice_values,
    load_rubric,
    longest_choice,
    nothing_further,
    require_engine,
    shown,
    too_long,
)
from selfalign.protocols import Engine, Judge, JudgeContext
from selfalign.templates import Template
from selfalign.types import Exercise, JudgeItem, Judgement, Outcome


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


@dataclass(frozen=True)
class LogitsReader:
    """Reads a score for each item from the logits of the rubric's choices.

    Raises:
        PromptFileError: the choices are worth no numbers.
    """

    context: JudgeContext
    rubric: Template
    min_mass: float
    further: Further = nothing_further

    def __post_init__(self) -> None:
        choice_values(self.rubric)

    @property
    def score_range(self) -> tuple[float, float]:
        values = choice_values(self.rubric)
        return min(values), max(values)

    def plan(self, judge: Judge, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge. Candidates of one prompt are together, as an engine may read what they share once."""
        engine = require_engine(self.context, judge.name)
        groups = list(by_prompt(items).values())
        if not groups:
            return []
        longest = [max(len(self._encode(engine, items[index])) for index in group) for group in groups]
        batches = engine.plan(longest, max(map(len, groups)), longest_choice(self.rubric))
        return [[index for at in batch for index in groups[at]] for batch in batches]

    def rows(self, judge: Judge, items: Sequence[JudgeItem]) -> list[Judgement]:
        """A row of ``judge`` for each item; one too long for the model's window gets a "truncated" row."""
        engine = require_engine(self.context, judge.name)
        prompts = [self._encode(engine, item) for item in items]
        room = engine.context_length - longest_choice(self.rubric)
        fitting = [prompt for prompt in prompts if len(prompt) <= room]
        scores = iter(engine.score_choices(fitting, self.rubric.choices) if fitting else ())
        rows = []
        for item, prompt in zip(items, prompts, strict=True):
            fits = len(prompt) <= room
            score, outcome, detail = self.read(next(scores)) if fits else too_long(len(prompt), room)
            rows.append(
                row(
                    judge, self.context.round, item, outcome, score=score, detail=detail,
                    weights_hash=engine.weights_hash,
                )
            )  # fmt: skip
        return rows

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """The choice worth most as the answer about ``better``, the one worth least about ``worse``."""
        by_value = sorted(zip(choice_values(self.rubric), self.rubric.choices, strict=True))
        return [
            Exercise(shown(self.rubric, item, self.further(item)), self.rubric.answer_prefix, choice)
            for item, (_, choice) in ((better, by_value[-1]), (worse, by_value[0]))
        ]

    def read(self, log_probs: Sequence[float]) -> tuple[float | None, Outcome, dict[str, Any]]:
        """(score, outcome, detail) from the log-probabilities of the choices."""
        score, shares, mass = expected_score([float(value) for value in log_probs], choice_values(self.rubric))
        detail = {"probabilities": dict(zip(self.rubric.choices, shares, strict=True)), "mass": mass}
        if score is None or mass < self.min_mass:
            return None, "parse_error", detail
        return score, "ok", detail

    def _encode(self, engine: Engine, item: JudgeItem) -> tuple[int, ...]:
        return engine.encode_prompt(shown(self.rubric, item, self.further(item)), self.rubric.answer_prefix)


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
        """Raises PromptFileError: the rubric cannot be used, or its choices are worth no numbers."""
        self.config = config
        rubric = load_rubric(context, config.rubric)
        self._reader = LogitsReader(context, rubric, config.min_mass)
        self.score_range = self._reader.score_range
        self.judge_hash = content_id("judge", self.name, rubric.hash, config.min_mass)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        return self._reader.plan(self, items)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        return self._reader.rows(self, items)

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: the choice worth most for the one, the one worth least for the other."""
        return self._reader.exercises(better, worse)
