"""Any judge with a price on length: a penalty beyond a free length, or a band around the prompt's median.

Judges like long answers, and a loop that trains on them grows longer every round (Self-Rewarding LM,
arXiv 2401.10020: 1092 to 2552 characters in two); the penalty is RLHFlow's r - c |y|.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from selfalign.config import Settings, plugin_config
from selfalign.identity import content_id
from selfalign.judges.comparisons import by_prompt, keep_together
from selfalign.judges.members import most_common_failure
from selfalign.judges.rows import row
from selfalign.judges.scores import Votes, aggregate
from selfalign.protocols import Judge, JudgeContext, TeachableJudge
from selfalign.registry import find
from selfalign.types import Candidate, Exercise, JudgeItem, Judgement, Outcome


class LengthJudge:
    """Its own row for each candidate that the inner judge has rows for, beside those rows.

    Its score is the inner judge's, less ``penalty`` for every 100 characters (or tokens) beyond ``free``, and
    never below the inner judge's lowest. With a ``band``, a candidate shorter or longer than that many times
    the median of its prompt's candidates has no score and the outcome out_of_range (its length is). Tokens
    are those that were sampled: an answer that nobody sampled, such as a gold item's, has none, is
    neither penalised nor cut, and its ``detail.length`` is null; count characters to measure on such answers.
    """

    name = "length"
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["length"] = "length"
        judge: Annotated[SerializeAsAny[Any], BeforeValidator(partial(plugin_config, "judge"))] = Field(
            description="the judge whose scores are corrected, with its own settings"
        )
        unit: Literal["characters", "tokens"] = Field("characters", description="what length is counted in")
        penalty: float = Field(0.0, ge=0, allow_inf_nan=False, description="score units per 100 characters or tokens")
        free: int = Field(0, ge=0, description="length without a penalty")
        band: tuple[float, float] | None = Field(
            None, description="[low, high] x the median length of the prompt's candidates; outside: no score"
        )

        @model_validator(mode="after")
        def _does_something(self) -> LengthJudge.Config:
            if self.band is not None and not 0 <= self.band[0] <= 1 <= self.band[1]:
                raise ValueError("band must be [low, high] with 0 <= low <= 1 <= high, such as [0.5, 2]")
            if self.band is None and not self.penalty:
                raise ValueError("needs a penalty above 0 or a band; without either, name the inner judge alone")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        self.config = config
        self._context = context
        self._inner: Judge = find("judge", config.judge.id).load()(config.judge, context)
        self.score_range = self._inner.score_range
        #: Judges of other packages may leave the attribute out.
        self.compares = config.band is not None or bool(getattr(self._inner, "compares", False))
        settings = config.model_dump(mode="json", exclude={"judge"})
        self.judge_hash = content_id("judge", self.name, self._inner.judge_hash, settings)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return bool(find("judge", config.judge.id).load().needs_engine(config.judge))

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge; with a band, the candidates of a prompt are in one batch."""
        plan = self._inner.plan(items)
        return keep_together(plan, [item.prompt.prompt_id for item in items]) if self.compares else plan

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: those of the inner judge."""
        return self._inner.exercises(better, worse) if isinstance(self._inner, TeachableJudge) else []

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        judged = self._inner.judge(items)
        own = [vote for vote in judged if vote.judge_hash == self._inner.judge_hash]
        votes = aggregate(own, self._inner.name, self._inner.min_valid_votes)
        medians = self._medians(items)
        return list(judged) + [
            self._row(item, votes[item.candidate.candidate_id], medians.get(item.prompt.prompt_id))
            for item in items
            if item.candidate.candidate_id in votes
        ]

    def _row(self, item: JudgeItem, votes: Votes, median: float | None) -> Judgement:
        length = self._length(item.candidate)
        detail: dict[str, Any] = {
            "judge": self._inner.name, "judge_hash": self._inner.judge_hash, "score": votes.score, "length": length,
        }  # fmt: skip
        score, outcome = votes.score, most_common_failure(votes.outcomes)
        if score is not None:
            outcome = "ok"
            if length is not None:
                score, outcome = self._correct(score, length, median)
        if outcome == "out_of_range" and votes.score is not None:
            detail |= {"reason": "length outside the band", "median": median}
        engine = self._context.engine
        used = engine.weights_hash if engine is not None and self.needs_engine(self.config) else None
        return row(self, self._context.round, item, outcome, score=score, detail=detail, weights_hash=used)

    def _correct(self, score: float, length: int, median: float | None) -> tuple[float | None, Outcome]:
        if self.config.band is not None and median is not None:
            low, high = self.config.band
            if not low * median <= length <= high * median:
                return None, "out_of_range"
        excess = max(0, length - self.config.free)
        return max(self.score_range[0], score - self.config.penalty * excess / 100), "ok"

    def _medians(self, items: Sequence[JudgeItem]) -> dict[str, float]:
        medians = {}
        for prompt_id, members in by_prompt(items).items():
            lengths = [self._length(items[index].candidate) for index in members]
            known = [length for length in lengths if length is not None]
            if known:
                medians[prompt_id] = statistics.median(known)
        return medians

    def _length(self, candidate: Candidate) -> int | None:
        if self.config.unit == "characters":
            return len(candidate.text)
        return candidate.n_tokens if candidate.n_tokens or not candidate.text else None
