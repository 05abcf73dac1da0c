"""A rubric answered k times in words; a candidate's score is the mean over valid votes.

Self-Rewarding Language Models (arXiv 2401.10020), section 2.2: additive 5-point prompt, 3 samples at
T=0.7, p=0.9. There an unparsed answer is not specified; here it is a row without a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.judges.parsing import parse_score
from selfalign.judges.rows import row
from selfalign.judges.rubric import (
    Further,
    load_rubric,
    nothing_further,
    quotable,
    require_engine,
    score_format,
    shown,
    too_long,
    vote_seed,
    words,
)
from selfalign.protocols import Engine, Judge, JudgeContext
from selfalign.templates import Template
from selfalign.types import Completion, GenerationRequest, JudgeItem, Judgement, Message, Outcome, SamplingParams


@dataclass(frozen=True)
class VotesReader:
    """Reads ``votes`` scores for each item from sampled answers in the rubric's form.

    Raises:
        PromptFileError: the rubric says not how its score is written.
    """

    context: JudgeContext
    rubric: Template
    votes: int
    params: SamplingParams
    further: Further = nothing_further

    def __post_init__(self) -> None:
        score_format(self.rubric)

    @property
    def score_range(self) -> tuple[float, float]:
        found = score_format(self.rubric)
        return found.min, found.max

    def plan(self, judge: Judge, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        engine = require_engine(self.context, judge.name)
        return engine.plan([self._length(engine, item) for item in items], self.votes, self.params.max_tokens)

    def rows(self, judge: Judge, items: Sequence[JudgeItem]) -> list[Judgement]:
        """A row of ``judge`` for each vote; an item too long for the model's window gets "truncated" votes."""
        engine = require_engine(self.context, judge.name)
        room = engine.context_length - self.params.max_tokens
        lengths = [self._length(engine, item) for item in items]
        requests = [self._request(judge, i) for i, length in zip(items, lengths, strict=True) if length <= room]
        answers = iter(engine.generate(requests, self.params) if requests else [])
        rows: list[Judgement] = []
        for item, length in zip(items, lengths, strict=True):
            votes = next(answers) if length <= room else [None] * self.votes
            for vote, (answer, seed) in enumerate(zip(votes, self._seeds(judge, item), strict=True)):
                score, outcome, detail = too_long(length, room) if answer is None else self._read(item, answer)
                rows.append(
                    row(
                        judge, self.context.round, item, outcome, score=score, detail=detail,
                        raw="" if answer is None else answer.text, sample_idx=vote, seed=seed,
                        weights_hash=engine.weights_hash,
                    )
                )  # fmt: skip
        return rows

    def _read(self, item: JudgeItem, answer: Completion) -> tuple[float | None, Outcome, dict[str, Any]]:
        score, outcome = parse_score(
            answer.text, score_format(self.rubric), answer.finish_reason,
            shown=quotable(item, self.further(item)), words=words(self.rubric),
        )  # fmt: skip
        return score, outcome, {"finish_reason": answer.finish_reason, "n_tokens": len(answer.token_ids)}

    def _request(self, judge: Judge, item: JudgeItem) -> GenerationRequest:
        return GenerationRequest(item.candidate.candidate_id, self.messages(item), self._seeds(judge, item))

    def _seeds(self, judge: Judge, item: JudgeItem) -> tuple[int, ...]:
        ids = [item.candidate.candidate_id]
        return tuple(vote_seed(self.context, judge.judge_hash, ids, vote) for vote in range(self.votes))

    def messages(self, item: JudgeItem) -> tuple[Message, ...]:
        """What the model is shown."""
        return shown(self.rubric, item, self.further(item))

    def _length(self, engine: Engine, item: JudgeItem) -> int:
        return len(engine.encode_prompt(self.messages(item)))


class RubricVotesJudge:
    """One row a vote. All votes on a candidate are one request, so that its prompt is read once."""

    name = "rubric_votes"

    class Config(Settings):
        id: Literal["rubric_votes"] = "rubric_votes"
        rubric: str = Field("judges/additive", min_length=1, description="name in prompts/, or path of a .j2 file")
        votes: int = Field(3, ge=1, description="answers sampled for each candidate")
        temperature: float = Field(0.7, ge=0, description="0 is greedy")
        top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
        max_tokens: int = Field(256, ge=1, description="of a judgement")
        min_valid_votes: int = Field(2, ge=1, description="a candidate with fewer valid votes has no score")

        @model_validator(mode="after")
        def _can_be_reached(self) -> RubricVotesJudge.Config:
            if self.min_valid_votes > self.votes:
                raise ValueError(f"min_valid_votes {self.min_valid_votes} exceeds votes {self.votes}; lower it")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or says not how its score is written."""
        self.config = config
        rubric = load_rubric(context, config.rubric)
        params = SamplingParams(config.temperature, config.top_p, 0, config.max_tokens)
        self._reader = VotesReader(context, rubric, config.votes, params)
        self.score_range = self._reader.score_range
        self.min_valid_votes = config.min_valid_votes
        self.written = config.votes
        self.judge_hash = content_id(
            "judge", self.name, rubric.hash, config.model_dump(mode="json", exclude={"rubric"})
        )

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        return self._reader.plan(self, items)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        return self._reader.rows(self, items)

    def asks(self, item: JudgeItem) -> tuple[Message, ...]:
        """See protocols.WritingJudge."""
        return self._reader.messages(item)
