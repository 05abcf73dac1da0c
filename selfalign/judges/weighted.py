"""Several judges as one: the weighted mean of their scores, each put on [0, 1] by its own range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.judges.members import Members, MemberVote, failure_of, member, needs_engine
from selfalign.judges.rows import row
from selfalign.protocols import JudgeContext
from selfalign.types import Exercise, JudgeItem, Judgement


class WeightedJudge:
    """Its own row beside its members' rows.

    A member applies to a candidate if it gives rows for it (the verifier gives none without constraints);
    weights are renormalised over those that apply. If one that applies has too few valid votes, the
    combined outcome is its most common failure, or with ``require_all: false`` the member is passed over.
    Where nobody applies the outcome is parse_error, as there is no score to be had.
    """

    name = "weighted"
    score_range = (0.0, 1.0)
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["weighted"] = "weighted"
        members: list[Annotated[Any, BeforeValidator(member())]] = Field(
            min_length=1, description="judges, each with its own settings and a weight above 0"
        )
        require_all: bool = Field(True, description="no score where a member that applies has too few valid votes")

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises ConfigError: the same judge with the same settings is listed twice."""
        self.config = config
        self._context = context
        self._members = Members(self.name, config.members, context)
        self.compares = self._members.compare
        self.judge_hash = content_id("judge", self.name, self._members.hashes(), config.require_all)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return needs_engine(config.members)

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        return self._members.plan(items)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        rows, votes = self._members.judge(items)
        return rows + [self._combine(item, said) for item, said in zip(items, votes, strict=True)]

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: those of the members."""
        return self._members.exercises(better, worse)

    def _combine(self, item: JudgeItem, votes: Sequence[MemberVote]) -> Judgement:
        failure = failure_of(votes, self.config.require_all)
        terms = [(vote.weight, vote.on_unit) for vote in votes if vote.on_unit is not None]
        detail: dict[str, Any] = {"members": [vote.detail() for vote in votes]}
        if not any(vote.applies for vote in votes):
            detail["reason"] = "no member applies"
        return row(
            self, self._context.round, item, failure or "ok", score=None if failure else weighted_mean(terms),
            weights_hash=self._members.weights_hash(), detail=detail,
        )  # fmt: skip


def weighted_mean(terms: Sequence[tuple[float, float]]) -> float:
    """Sum w_i x_i / sum w_i over (w, x)."""
    return math.fsum(weight * value for weight, value in terms) / math.fsum(weight for weight, _ in terms)
