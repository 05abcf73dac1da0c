"""Several judges as one: the weighted mean of their scores, each put on [0, 1] by its own range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer

from selfalign.config import Settings
from selfalign.errors import ConfigError
from selfalign.identity import content_id
from selfalign.judges.comparisons import keep_together
from selfalign.judges.nested import judge_config
from selfalign.judges.rows import row
from selfalign.judges.scores import Votes, aggregate
from selfalign.protocols import Judge, JudgeContext, TeachableJudge
from selfalign.registry import find
from selfalign.types import Exercise, JudgeItem, Judgement, Outcome


class Member(Settings):
    """A judge's config and its weight; in YAML they are one mapping: {id: verifier, weight: 1.0}."""

    weight: float = Field(gt=0, allow_inf_nan=False)
    judge: Any

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {**self.judge.model_dump(mode="json"), "weight": self.weight}


def _member(value: Any) -> Any:
    if isinstance(value, Member):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise ValueError("needs an 'id' that names the judge, and a 'weight'")
    settings = {key: setting for key, setting in value.items() if key != "weight"}
    weight = {"weight": value["weight"]} if "weight" in value else {}
    return Member.model_validate({"judge": judge_config(settings), **weight})


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
        members: list[Annotated[Any, BeforeValidator(_member)]] = Field(
            min_length=1, description="judges, each with its own settings and a weight above 0"
        )
        require_all: bool = Field(True, description="no score where a member that applies has too few valid votes")

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises ConfigError: the same judge with the same settings is listed twice."""
        self.config = config
        self._context = context
        self.members: list[tuple[Judge, float]] = [
            (find("judge", member.judge.id).load()(member.judge, context), member.weight) for member in config.members
        ]
        # Judges of other packages may leave the attribute out.
        self.compares = any(getattr(judge, "compares", False) for judge, _ in self.members)
        hashes = [(judge.judge_hash, weight) for judge, weight in self.members]
        if len({judge_hash for judge_hash, _ in hashes}) < len(hashes):
            raise ConfigError(
                "judge 'weighted': a member is listed twice with the same settings; raise its weight instead"
            )
        self.judge_hash = content_id("judge", self.name, hashes, config.require_all)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return any(find("judge", m.judge.id).load().needs_engine(m.judge) for m in config.members)

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge; the plan of the member that needs the smallest batches.

        Where a member compares the candidates of a prompt, they are kept together.
        """
        plan = max((judge.plan(items) for judge, _ in self.members), key=len)
        return keep_together(plan, [item.prompt.prompt_id for item in items]) if self.compares else plan

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        rows: list[Judgement] = []
        votes: list[dict[str, Votes]] = []
        for judge, _ in self.members:
            judged = judge.judge(items)
            rows += judged
            own = [vote for vote in judged if vote.judge_hash == judge.judge_hash]
            votes.append(aggregate(own, judge.name, judge.min_valid_votes))
        return rows + [self._combine(item, votes) for item in items]

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: those of the members that can be taught."""
        teachable = [judge for judge, _ in self.members if isinstance(judge, TeachableJudge)]
        return [exercise for judge in teachable for exercise in judge.exercises(better, worse)]

    def _combine(self, item: JudgeItem, votes: Sequence[dict[str, Votes]]) -> Judgement:
        terms: list[tuple[float, float]] = []
        failures: list[Outcome] = []
        detail: list[dict[str, Any]] = []
        for (judge, weight), by_candidate in zip(self.members, votes, strict=True):
            found = by_candidate.get(item.candidate.candidate_id)
            on_unit = None
            if found is not None and found.score is not None:
                low, high = judge.score_range
                on_unit = (found.score - low) / (high - low)
                terms.append((weight, on_unit))
            elif found is not None:
                failures.append(most_common_failure(found.outcomes))
            detail.append(
                {
                    "judge": judge.name, "judge_hash": judge.judge_hash, "weight": weight, "applies": found is not None,
                    "score": None if found is None else found.score, "on_unit": on_unit,
                }
            )  # fmt: skip
        outcome: Outcome = "ok"
        if failures and (self.config.require_all or not terms):
            outcome = failures[0]
        elif not terms:
            outcome = "parse_error"
        score = weighted_mean(terms) if outcome == "ok" else None
        return row(
            self, self._context.round, item, outcome, score=score, weights_hash=self._weights_hash(),
            detail={"members": detail} if terms or failures else {"members": detail, "reason": "no member applies"},
        )  # fmt: skip

    def _weights_hash(self) -> str | None:
        engine = self._context.engine
        return engine.weights_hash if engine is not None and self.needs_engine(self.config) else None


def weighted_mean(terms: Sequence[tuple[float, float]]) -> float:
    """Sum w_i x_i / sum w_i over (w, x)."""
    return math.fsum(weight * value for weight, value in terms) / math.fsum(weight for weight, _ in terms)


def most_common_failure(outcomes: dict[Outcome, int]) -> Outcome:
    """The outcome other than "ok" that occurs most; the first in alphabet among equals.

    Too few votes without any failure (a judge that gave fewer rows than it needs) is a parse_error.
    """
    failures: list[Outcome] = [outcome for outcome in outcomes if outcome != "ok"]
    return min(failures, key=lambda outcome: (-outcomes[outcome], outcome), default="parse_error")
