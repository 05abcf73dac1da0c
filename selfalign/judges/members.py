"""What judges made of other judges share: their members' settings, batches and votes on a common scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_serializer

from selfalign.config import Settings, plugin_config
from selfalign.errors import ConfigError
from selfalign.judges.comparisons import by_prompt
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


def member(default_weight: float | None = None) -> Callable[[Any], Any]:
    """A validator that makes a :class:`Member` of a mapping, or of a judge's bare name where a weight can be left out."""

    def validate(value: Any) -> Any:
        if isinstance(value, Member):
            return value
        if isinstance(value, str) and default_weight is not None:
            value = {"id": value}
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise ValueError("needs an 'id' that names the judge, and a 'weight'")
        settings = {key: setting for key, setting in value.items() if key != "weight"}
        weight = {} if default_weight is None else {"weight": default_weight}
        if "weight" in value:
            weight = {"weight": value["weight"]}
        return Member.model_validate({"judge": plugin_config("judge", settings), **weight})

    return validate


@dataclass(frozen=True)
class MemberVote:
    """What one member says of one candidate. ``on_unit`` is its score put on [0, 1] by the member's own range.

    A member applies to a candidate if it gives rows for it (the verifier gives none without constraints);
    ``failure`` is set where it applies and has too few valid votes.
    """

    judge: Judge
    weight: float
    applies: bool
    score: float | None
    on_unit: float | None
    failure: Outcome | None

    def detail(self) -> dict[str, Any]:
        return {
            "judge": self.judge.name, "judge_hash": self.judge.judge_hash, "weight": self.weight,
            "applies": self.applies, "score": self.score, "on_unit": self.on_unit,
        }  # fmt: skip


class Members:
    """Built judges and their weights."""

    def __init__(self, owner: str, settings: Sequence[Member], context: JudgeContext) -> None:
        """Raises ConfigError: the same judge with the same settings is listed twice."""
        self._context = context
        self._needs_engine = needs_engine(settings)
        self.judges: list[tuple[Judge, float]] = [
            (find("judge", m.judge.id).load()(m.judge, context), m.weight) for m in settings
        ]
        if len({judge.judge_hash for judge, _ in self.judges}) < len(self.judges):
            raise ConfigError(
                f"judge '{owner}': a member is listed twice with the same settings; raise its weight instead"
            )

    @property
    def compare(self) -> bool:
        """Whether a member looks at a prompt's candidates together; judges of other packages may not say so."""
        return any(getattr(judge, "compares", False) for judge, _ in self.judges)

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: those of the members that can be taught."""
        teachable = [judge for judge, _ in self.judges if isinstance(judge, TeachableJudge)]
        return [exercise for judge in teachable for exercise in judge.exercises(better, worse)]

    def hashes(self) -> list[tuple[str, float]]:
        return [(judge.judge_hash, weight) for judge, weight in self.judges]

    def weights_hash(self) -> str | None:
        """Of the model that members use; None where none does."""
        engine = self._context.engine
        return engine.weights_hash if engine is not None and self._needs_engine else None

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """About the batches of the member that needs the smallest ones, a prompt's candidates always together."""
        finest = max((judge.plan(items) for judge, _ in self.judges), key=len)
        return whole_prompts(items, finest)

    def judge(self, items: Sequence[JudgeItem]) -> tuple[list[Judgement], list[list[MemberVote]]]:
        """(the members' rows, for each item what each member says)."""
        rows: list[Judgement] = []
        votes: list[dict[str, Votes]] = []
        for judge, _ in self.judges:
            # Each member judges in batches of its own size: ours may hold more of a prompt than it can take at once.
            judged = [row for batch in judge.plan(items) for row in judge.judge([items[i] for i in batch])]
            rows += judged
            own = [vote for vote in judged if vote.judge_hash == judge.judge_hash]
            votes.append(aggregate(own, judge.name, judge.min_valid_votes))
        said = [
            [
                _vote(judge, weight, by_candidate.get(item.candidate.candidate_id))
                for (judge, weight), by_candidate in zip(self.judges, votes, strict=True)
            ]
            for item in items
        ]
        return rows, said


def needs_engine(settings: Sequence[Member]) -> bool:
    return any(find("judge", m.judge.id).load().needs_engine(m.judge) for m in settings)


def whole_prompts(items: Sequence[JudgeItem], plan: Sequence[Sequence[int]]) -> list[list[int]]:
    """``plan`` in its order and with batches of at most its size, unless one prompt alone has more candidates."""
    size = max(map(len, plan), default=0)
    order = [index for batch in plan for index in batch]
    batches: list[list[int]] = []
    for places in by_prompt([items[index] for index in order]).values():
        members = [order[place] for place in places]
        if batches and len(batches[-1]) + len(members) <= size:
            batches[-1] += members
        else:
            batches.append(members)
    return batches


def failure_of(votes: Sequence[MemberVote], require_all: bool) -> Outcome | None:
    """Why there is no combined score: the first member's failure, parse_error where nobody applies, or None.

    Without ``require_all`` failing members are passed over while another one has a score.
    """
    failures = [vote.failure for vote in votes if vote.failure is not None]
    scored = any(vote.on_unit is not None for vote in votes)
    if failures and (require_all or not scored):
        return failures[0]
    return None if scored else "parse_error"


def _vote(judge: Judge, weight: float, found: Votes | None) -> MemberVote:
    if found is None:
        return MemberVote(judge, weight, False, None, None, None)
    if found.score is None:
        return MemberVote(judge, weight, True, None, None, most_common_failure(found.outcomes))
    low, high = judge.score_range
    return MemberVote(judge, weight, True, found.score, (found.score - low) / (high - low), None)


def most_common_failure(outcomes: dict[Outcome, int]) -> Outcome:
    """The outcome other than "ok" that occurs most; the first in alphabet among equals.

    Too few votes without any failure (a judge that gave fewer rows than it needs) is a parse_error.
    """
    failures: list[Outcome] = [outcome for outcome in outcomes if outcome != "ok"]
    return min(failures, key=lambda outcome: (-outcomes[outcome], outcome), default="parse_error")
