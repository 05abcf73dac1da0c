"""Several judges or models as a jury: combined, and their disagreement kept and acted on.

Panels of smaller judges from different families agree with people better than one large judge does
(Verga et al., arXiv 2404.18796, mean and majority); the weights are those of calibrated_weights.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from selfalign.config import Settings
from selfalign.errors import ConfigError
from selfalign.identity import content_id
from selfalign.judges.calibrated_weights import read_weights
from selfalign.judges.comparisons import by_prompt
from selfalign.judges.members import Member, Members, MemberVote, failure_of, member, needs_engine
from selfalign.judges.rows import row
from selfalign.judges.weighted import weighted_mean
from selfalign.protocols import JudgeContext
from selfalign.types import Exercise, JudgeItem, Judgement, Outcome

#: Scores that differ by less are the same opinion.
_ROUNDING = 1e-9

Combination = Literal["mean", "median", "majority"]


class JuryJudge:
    """Its own row beside its members' rows; members apply and fail as in ``weighted``.

    ``combine`` is ``mean`` or ``median`` of the members' scores on [0, 1], both weighted, or ``majority``: the share of
    the prompt's other candidates that the weighted majority of members thinks worse (equal counts half; Copeland).
    With ``disagree_above`` a candidate whose ``disagreement`` exceeds it has the outcome "disagree" and no score.
    """

    name = "jury"
    score_range = (0.0, 1.0)
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["jury"] = "jury"
        members: list[Annotated[Any, BeforeValidator(member(default_weight=1.0))]] = Field(
            min_length=2, description="judges, each with its own settings and perhaps a weight"
        )
        combine: Combination = Field("mean", description="how the members' scores become one")
        weights: Literal["given", "calibration"] = Field(
            "given",
            description="calibration: by the log-odds of each member's accuracy; at or below chance is left out",
        )
        calibration: str | None = Field(None, description="what selfalign calibrate --json printed, as a file")
        disagreement: Literal["std", "range", "rank"] = Field(
            "range",
            description="what disagree_above is about; rank: share of members that rank the candidate otherwise",
        )
        disagree_above: float | None = Field(None, ge=0, lt=1, description="no score where members disagree more")
        require_all: bool = Field(True, description="no score where a member that applies has too few valid votes")

        @model_validator(mode="after")
        def _has_its_figures(self) -> JuryJudge.Config:
            if (self.weights == "calibration") != (self.calibration is not None):
                raise ValueError("weights: calibration and calibration: FILE belong together; give both or neither")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises ConfigError: a member is listed twice, or calibration knows too little of the members."""
        self.config = config
        self._context = context
        self._members = Members(self.name, config.members, context)
        if config.calibration is not None:
            self._members = Members(self.name, _calibrated(self._members, config), context)
        #: Ranks and majorities are among the candidates of a prompt.
        self.compares = True
        self.judge_hash = content_id(
            "judge", self.name, self._members.hashes(), config.combine, config.disagreement, config.disagree_above,
            config.require_all,
        )  # fmt: skip

    @property
    def member_weights(self) -> list[tuple[str, float]]:
        """(judge_hash, weight) of the members that take part."""
        return self._members.hashes()

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return needs_engine(config.members)

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge; candidates of a prompt are always in one batch."""
        return self._members.plan(items)

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: those of the members."""
        return self._members.exercises(better, worse)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        rows, votes = self._members.judge(items)
        own: dict[int, Judgement] = {}
        for indices in by_prompt(items).values():
            own |= self._prompt({i: items[i] for i in indices}, {i: votes[i] for i in indices})
        return rows + [own[index] for index in range(len(items))]

    def _prompt(
        self, items: Mapping[int, JudgeItem], votes: Mapping[int, Sequence[MemberVote]]
    ) -> dict[int, Judgement]:
        failures = {i: failure_of(said, self.config.require_all) for i, said in votes.items()}
        scored = {i: [vote.on_unit for vote in said] for i, said in votes.items() if failures[i] is None}
        scores = combine(scored, [weight for _, weight in self._members.judges], self.config.combine)
        spread = {i: disagreement(i, scored, scores) for i in scores}
        return {i: self._row(item, votes[i], failures[i], scores.get(i), spread.get(i)) for i, item in items.items()}

    def _row(
        self,
        item: JudgeItem,
        votes: Sequence[MemberVote],
        failure: Outcome | None,
        score: float | None,
        spread: Disagreement | None,
    ) -> Judgement:
        detail: dict[str, Any] = {"members": [vote.detail() for vote in votes]}
        outcome: Outcome = failure or "ok"
        if not any(vote.applies for vote in votes):
            detail["reason"] = "no member applies"
        elif failure is None and score is None:
            outcome, detail["reason"] = "parse_error", "no other candidate of the prompt to compare with"
        if spread is not None:
            detail |= {"std": spread.std, "range": spread.range, "rank_agreement": spread.rank_agreement}
            if self._too_much(spread):
                outcome, detail["combined"] = "disagree", score
        return row(
            self, self._context.round, item, outcome, score=score if outcome == "ok" else None,
            weights_hash=self._members.weights_hash(), detail=detail,
        )  # fmt: skip

    def _too_much(self, spread: Disagreement) -> bool:
        limit = self.config.disagree_above
        if limit is None:
            return False
        if self.config.disagreement == "rank":
            return spread.rank_agreement is not None and 1 - spread.rank_agreement > limit + _ROUNDING
        return (spread.std if self.config.disagreement == "std" else spread.range) > limit + _ROUNDING


@dataclass(frozen=True)
class Disagreement:
    """Of the members' scores of one candidate on [0, 1]: ``std`` divides by their number.

    ``rank_agreement`` is the share of members that rank the candidate among its prompt's as the jury does; None
    where it is the only one with a score.
    """

    std: float
    range: float
    rank_agreement: float | None


#: What each member gave a candidate, in order of members; None where it gave nothing.
Opinions = Mapping[int, Sequence[float | None]]


def combine(opinions: Opinions, weights: Sequence[float], how: Combination) -> dict[int, float]:
    """Candidate -> combined score in [0, 1]. All of one prompt; every candidate has at least one member's score."""
    if how == "majority":
        return _majority(opinions, weights)
    terms = {i: [(w, x) for w, x in zip(weights, said, strict=True) if x is not None] for i, said in opinions.items()}
    merge = weighted_mean if how == "mean" else weighted_median
    return {i: merge(own) for i, own in terms.items()}


def weighted_median(terms: Sequence[tuple[float, float]]) -> float:
    """The value that half of the weight lies at or below, over (weight, value); between two of them their mean."""
    ordered = sorted((value, weight) for weight, value in terms)
    half, below = math.fsum(weight for _, weight in ordered) / 2, 0.0
    for position, (value, weight) in enumerate(ordered):
        below += weight
        if math.isclose(below, half) and position + 1 < len(ordered):
            return (value + ordered[position + 1][0]) / 2
        if below > half:
            break
    return value


def _majority(opinions: Opinions, weights: Sequence[float]) -> dict[int, float]:
    scores = {}
    for i, own in opinions.items():
        others = [said for j, said in opinions.items() if j != i]
        if others:
            scores[i] = math.fsum(_beats(own, said, weights) for said in others) / len(others)
    return scores


def _beats(own: Sequence[float | None], other: Sequence[float | None], weights: Sequence[float]) -> float:
    """1 where the weight of members that prefer ``own`` exceeds that of those that prefer ``other``, 0.5 where equal."""
    balance = math.fsum(
        weight * _sign(x - y)
        for x, y, weight in zip(own, other, weights, strict=True)
        if x is not None and y is not None
    )
    return (1 + _sign(balance)) / 2


def _sign(value: float) -> int:
    return 0 if abs(value) <= _ROUNDING else (1 if value > 0 else -1)


def disagreement(candidate: int, opinions: Opinions, scores: Mapping[int, float]) -> Disagreement:
    """How far the members are apart on ``candidate``, one of the prompt's whose combined ``scores`` are given."""
    own = [value for value in opinions[candidate] if value is not None]
    mean = math.fsum(own) / len(own)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in own) / len(own))
    agree = []
    for number, value in enumerate(opinions[candidate]):
        ranked = {i: found for i in scores if (found := opinions[i][number]) is not None}
        if value is not None and len(ranked) > 1:
            agree.append(_rank(candidate, ranked) == _rank(candidate, {i: scores[i] for i in ranked}))
    return Disagreement(std, max(own) - min(own), sum(agree) / len(agree) if agree else None)


def _rank(candidate: int, values: Mapping[int, float]) -> int:
    """0 for the best; equal values share a rank."""
    return sum(value > values[candidate] + _ROUNDING for value in values.values())


def _calibrated(members: Members, config: JuryJudge.Config) -> list[Member]:
    path = Path(config.calibration or "")
    weights = read_weights(path)
    kept = []
    for (judge, _), settings in zip(members.judges, config.members, strict=True):
        if judge.judge_hash not in weights:
            raise ConfigError(
                f"judge 'jury': {path} has no accuracy of member '{judge.name}' ({judge.judge_hash}); calibrate it with "
                "the settings it has here"
            )
        if (weight := weights[judge.judge_hash]) > 0:
            kept.append(settings.model_copy(update={"weight": weight}))
    if not kept:
        raise ConfigError(f"judge 'jury': by {path} no member judges better than chance; teach or replace the judges")
    return kept
