"""A rubric answered k times in words; a candidate's score is the mean over valid votes.

Self-Rewarding Language Models (arXiv 2401.10020), section 2.2: additive 5-point prompt, 3 samples at
T=0.7, p=0.9. There an unparsed answer is not specified; here it is a row without a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id, derive_seed
from selfalign.judges.parsing import parse_score
from selfalign.judges.rows import row
from selfalign.judges.rubric import load_rubric, require_engine, shown
from selfalign.protocols import JudgeContext
from selfalign.types import Completion, GenerationRequest, JudgeItem, Judgement, SamplingParams


class RubricVotesJudge:
    """One row a vote. All votes on a candidate are one request, so that its prompt is read once."""

    name = "rubric_votes"

    class Config(Settings):
        id: Literal["rubric_votes"] = "rubric_votes"
        rubric: str = Field("judges/additive", min_length=1, description="name in prompts/, or path of a .j2 file")
        votes: int = Field(3, ge=1, description="answers sampled for each candidate")
        temperature: float = Field(0.7, ge=0)
        top_p: float = Field(0.9, gt=0, le=1)
        max_tokens: int = Field(256, ge=1)
        min_valid_votes: int = Field(2, ge=1, description="a candidate with fewer valid votes has no score")

        @model_validator(mode="after")
        def _can_be_reached(self) -> RubricVotesJudge.Config:
            if self.min_valid_votes > self.votes:
                raise ValueError(f"min_valid_votes {self.min_valid_votes} exceeds votes {self.votes}; lower it")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or says not how its score is written."""
        self.config = config
        self._context = context
        self._rubric = load_rubric(context, config.rubric)
        if self._rubric.score is None:
            raise PromptFileError(f"{self._rubric.path}: needs score (min, max, pattern) for judge '{self.name}'")
        self._score = self._rubric.score
        self.score_range = (self._score.min, self._score.max)
        self.min_valid_votes = config.min_valid_votes
        self.judge_hash = content_id(
            "judge", self.name, self._rubric.hash, config.model_dump(mode="json", exclude={"rubric"})
        )

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        engine = require_engine(self._context, self.name)
        return engine.plan([self._length(item) for item in items], self.config.votes, self.config.max_tokens)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge. A candidate too long for the model's window gets "truncated" votes."""
        engine = require_engine(self._context, self.name)
        config = self.config
        room = engine.context_length - config.max_tokens
        fits = [self._length(item) <= room for item in items]
        params = SamplingParams(config.temperature, config.top_p, 0, config.max_tokens)
        answers = iter(engine.generate([self._request(i) for i, fit in zip(items, fits, strict=True) if fit], params))
        rows: list[Judgement] = []
        for item, fit in zip(items, fits, strict=True):
            rows += self._votes(item, next(answers), engine.weights_hash) if fit else self._too_long(item, room)
        return rows

    def _votes(self, item: JudgeItem, answers: Sequence[Completion], weights_hash: str) -> list[Judgement]:
        rows = []
        for vote, (answer, seed) in enumerate(zip(answers, self._seeds(item), strict=True)):
            score, outcome = parse_score(answer.text, self._score, answer.finish_reason)
            detail = {"finish_reason": answer.finish_reason, "n_tokens": len(answer.token_ids)}
            rows.append(
                row(
                    self, self._context.round, item, outcome, score=score, detail=detail, raw=answer.text,
                    sample_idx=vote, seed=seed, weights_hash=weights_hash,
                )
            )  # fmt: skip
        return rows

    def _too_long(self, item: JudgeItem, room: int) -> list[Judgement]:
        engine = require_engine(self._context, self.name)
        detail = {"reason": "judge prompt exceeds the window", "n_prompt_tokens": self._length(item), "room": room}
        return [
            row(
                self, self._context.round, item, "truncated", detail=detail, sample_idx=vote, seed=seed,
                weights_hash=engine.weights_hash,
            )
            for vote, seed in enumerate(self._seeds(item))
        ]  # fmt: skip

    def _request(self, item: JudgeItem) -> GenerationRequest:
        return GenerationRequest(item.candidate.candidate_id, shown(self._rubric, item), self._seeds(item))

    def _seeds(self, item: JudgeItem) -> tuple[int, ...]:
        run_seed, round = self._context.run_seed, self._context.round
        return tuple(
            derive_seed(run_seed, round, "judge", item.candidate.candidate_id, self.judge_hash, vote)
            for vote in range(self.config.votes)
        )

    def _length(self, item: JudgeItem) -> int:
        return len(require_engine(self._context, self.name).encode_prompt(shown(self._rubric, item)))
