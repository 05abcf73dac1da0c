"""Critique, then score: the judge first lists what is wrong, and its score is read after that list.

CriticGPT (arXiv 2407.00215) trains critics on tampered answers; see tamper.py for that test of a judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id, derive_seed
from selfalign.judges.parsing import is_refusal, parse_score
from selfalign.judges.rows import row
from selfalign.judges.rubric import (
    POINTWISE,
    load_rubric,
    longest_choice,
    quotable,
    require_engine,
    score_format,
    shown,
    too_long,
    vote_seed,
    words,
)
from selfalign.judges.rubric_logits import LogitsReader
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Template
from selfalign.types import Completion, GenerationRequest, JudgeItem, Judgement, Message, Outcome, SamplingParams

VARIABLES = (*POINTWISE, "critique")
_PROBLEM = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)、])[ \t]*\S", re.MULTILINE)
#: Further seed of the score after a critique, so that the two are not drawn alike.
_SCORE = "score"


class CritiqueJudge:
    """One row a critique; ``raw`` is the critique, and ``detail`` has the number of problems that it lists.

    The rubric is a conversation: its messages before the first assistant message ask for the critique, the
    assistant's message holds ``{{ critique }}``, and what follows asks for the score. The score is the
    expectation over the choices ("logits"), or parsed from a second answer ("text"), which ``detail.answer``
    keeps. A critique that was cut is scored as far as it goes.
    """

    name = "critique"

    class Config(Settings):
        id: Literal["critique"] = "critique"
        rubric: str = Field("judges/critique", min_length=1, description="name in prompts/, or path of a .j2 file")
        mode: Literal["logits", "text"] = Field("logits", description="how the score is read after the critique")
        min_mass: float = Field(0.0, ge=0, le=1, description="logits: less probability on the choices is a parse_error")
        critiques: int = Field(1, ge=1, description="critiques sampled for each candidate, each with a score")
        temperature: float = Field(0.7, ge=0, description="0 is greedy")
        top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
        max_tokens: int = Field(192, ge=1, description="of a critique")
        answer_tokens: int = Field(16, ge=1, description="text: of the answer that holds the score")
        min_valid_votes: int = Field(1, ge=1, description="a candidate with fewer valid scores has none")

        @model_validator(mode="after")
        def _can_be_reached(self) -> CritiqueJudge.Config:
            if self.min_valid_votes > self.critiques:
                raise ValueError(f"min_valid_votes {self.min_valid_votes} exceeds critiques {self.critiques}; lower it")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or is no such conversation."""
        self.config = config
        self._context = context
        self._rubric = load_rubric(context, config.rubric, VARIABLES)
        self._asking = _messages_that_ask(self._rubric)
        self._logits = LogitsReader(context, self._rubric, config.min_mass) if config.mode == "logits" else None
        if self._logits:
            self.score_range = self._logits.score_range
        else:
            self.score_range = (score_format(self._rubric).min, score_format(self._rubric).max)
        self.min_valid_votes = config.min_valid_votes
        self.written = config.critiques
        unused = {"answer_tokens"} if config.mode == "logits" else {"min_mass"}
        settings = config.model_dump(mode="json", exclude={"rubric", *unused})
        self.judge_hash = content_id("judge", self.name, self._rubric.hash, settings)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        engine = require_engine(self._context, self.name)
        lengths = [len(engine.encode_prompt(self.asks(item))) for item in items]
        return engine.plan(lengths, self.config.critiques, self.config.max_tokens)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge. What the model's window cannot hold, before or after the critique, is "truncated"."""
        engine = require_engine(self._context, self.name)
        config = self.config
        room = engine.context_length - config.max_tokens
        lengths = [len(engine.encode_prompt(self.asks(item))) for item in items]
        requests = [
            GenerationRequest(item.candidate.candidate_id, self.asks(item), self._seeds(item))
            for item, length in zip(items, lengths, strict=True)
            if length <= room
        ]
        params = SamplingParams(config.temperature, config.top_p, 0, config.max_tokens)
        answers = iter(engine.generate(requests, params) if requests else [])
        written = [next(answers) if length <= room else None for length in lengths]
        scores = iter(
            self._score(engine, [(i, c) for i, found in zip(items, written, strict=True) for c in found or ()])
        )
        rows: list[Judgement] = []
        for item, length, critiques in zip(items, lengths, written, strict=True):
            for vote, seed in enumerate(self._seeds(item)):
                critique = critiques[vote] if critiques else None
                score, outcome, detail = next(scores) if critique else too_long(length, room)
                rows.append(
                    row(
                        self, self._context.round, item, outcome, score=score, detail=detail,
                        raw=critique.text if critique else "", sample_idx=vote, seed=seed,
                        weights_hash=engine.weights_hash,
                    )
                )  # fmt: skip
        return rows

    def _score(
        self, engine: Engine, critiqued: Sequence[tuple[JudgeItem, Completion]]
    ) -> list[tuple[float | None, Outcome, dict[str, Any]]]:
        """(score, outcome, detail) after each critique."""
        prefix = self._rubric.answer_prefix if self._logits else ""
        answer_room = longest_choice(self._rubric) if self._logits else self.config.answer_tokens
        room = engine.context_length - answer_room
        prompts = [engine.encode_prompt(self._conclude(item, critique), prefix) for item, critique in critiqued]
        asked = [
            len(prompt) <= room and not is_refusal(critique.text)
            for (_, critique), prompt in zip(critiqued, prompts, strict=True)
        ]
        read = iter(
            self._by_logits(engine, [p for p, ask in zip(prompts, asked, strict=True) if ask])
            if self._logits
            else self._by_text(engine, [c for c, ask in zip(critiqued, asked, strict=True) if ask])
        )
        results: list[tuple[float | None, Outcome, dict[str, Any]]] = []
        for (_, critique), prompt, ask in zip(critiqued, prompts, asked, strict=True):
            if ask:
                score, outcome, detail = next(read)
            elif is_refusal(critique.text):
                score, outcome, detail = None, "refused", {}
            else:
                score, outcome, detail = too_long(len(prompt), room)
            detail["problems"] = len(_PROBLEM.findall(critique.text))
            detail |= {"finish_reason": critique.finish_reason, "n_tokens": len(critique.token_ids)}
            results.append((score, outcome, detail))
        return results

    def _by_logits(
        self, engine: Engine, prompts: Sequence[tuple[int, ...]]
    ) -> list[tuple[float | None, Outcome, dict[str, Any]]]:
        assert self._logits is not None
        scores = engine.score_choices(prompts, self._rubric.choices) if prompts else ()
        return [self._logits.read(log_probs) for log_probs in scores]

    def _by_text(
        self, engine: Engine, critiqued: Sequence[tuple[JudgeItem, Completion]]
    ) -> list[tuple[float | None, Outcome, dict[str, Any]]]:
        taken: dict[str, int] = {}
        requests = []
        for item, critique in critiqued:
            candidate_id = item.candidate.candidate_id
            number = taken[candidate_id] = taken.get(candidate_id, -1) + 1
            seed = derive_seed(self._seeds(item)[0], _SCORE, critique.text, number)
            requests.append(GenerationRequest(candidate_id, self._conclude(item, critique), (seed,)))
        params = SamplingParams(self.config.temperature, self.config.top_p, 0, self.config.answer_tokens)
        results: list[tuple[float | None, Outcome, dict[str, Any]]] = []
        answers = engine.generate(requests, params) if requests else []
        for (item, _), (answer,) in zip(critiqued, answers, strict=True):
            score, outcome = parse_score(
                answer.text, score_format(self._rubric), answer.finish_reason,
                shown=quotable(item), words=words(self._rubric),
            )  # fmt: skip
            results.append((score, outcome, {"answer": answer.text, "answer_finish_reason": answer.finish_reason}))
        return results

    def asks(self, item: JudgeItem) -> tuple[Message, ...]:
        """See protocols.WritingJudge: what asks for a critique."""
        return shown(self._rubric, item, {"critique": ""})[: self._asking]

    def _conclude(self, item: JudgeItem, critique: Completion) -> tuple[Message, ...]:
        return shown(self._rubric, item, {"critique": critique.text})

    def _seeds(self, item: JudgeItem) -> tuple[int, ...]:
        ids = [item.candidate.candidate_id]
        return tuple(vote_seed(self._context, self.judge_hash, ids, vote) for vote in range(self.config.critiques))


def _messages_that_ask(rubric: Template) -> int:
    """How many messages come before the critique."""
    one, other = (
        rubric.messages(instruction="a", response="b", critique=critique) for critique in ("first text", "second text")
    )
    roles = [message["role"] for message in one]
    asking = roles.index("assistant") if "assistant" in roles else 0
    if not asking or one[:asking] != other[:asking] or one[asking] == other[asking]:
        raise PromptFileError(
            f"{rubric.path}: must ask for the critique in a user message, hold {{{{ critique }}}} in the first "
            f"'=== assistant ===' message, and ask for the score in a user message after it"
        )
    return asking
