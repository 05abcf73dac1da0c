"""What the pages show, as frozen rows. Texts are as they were stored; the templates make them safe to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from selfalign.types import Review

R = TypeVar("R")


@dataclass(frozen=True)
class Facets:
    """What there is to filter by."""

    rounds: Sequence[int]
    branches: Sequence[str]
    judges: Sequence[str]
    languages: Sequence[str]
    categories: Sequence[str]


@dataclass(frozen=True)
class RoundLine:
    """A round on the first page: rows that its stages made, by the ledger, and how good M_t is."""

    round: int
    status: str
    prompts: int | None
    candidates: int | None
    judgements: int | None
    pairs: int | None
    stage: str | None
    pass_rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Overview:
    run: str
    model: str
    rounds: Sequence[RoundLine]


@dataclass(frozen=True)
class PromptLine:
    prompt_id: str
    round: int
    split: str
    text: str
    language: str
    category: str
    origin: str
    instructions: Sequence[str] = ()
    kwargs: str = "[]"
    answer: str | None = None


@dataclass(frozen=True)
class CandidateLine:
    candidate_id: str
    prompt_id: str
    round: int
    split: str
    sample_idx: int
    text: str
    n_tokens: int
    finish_reason: str
    weights_hash: str
    logprob: float
    temperature: float
    origin: str | None


@dataclass(frozen=True)
class JudgementLine:
    judgement_id: str
    candidate_id: str
    round: int
    judge: str
    sample_idx: int
    score: float | None
    outcome: str
    raw: str
    detail: str
    weights_hash: str | None


@dataclass(frozen=True)
class PairLine:
    """A pair as the judge made it; ``branch`` is None for the run as it stands."""

    pair_id: str
    prompt_id: str
    round: int
    chosen_id: str
    rejected_id: str
    chosen_score: float
    rejected_score: float
    margin: float
    judge: str
    builder: str
    n_votes: int
    weight: float
    branch: str | None = None


@dataclass(frozen=True)
class PairInList:
    pair: PairLine
    prompt: str
    chosen: str
    rejected: str
    review: Review | None


@dataclass(frozen=True)
class Training:
    """A round whose training was given a pair, or was not because somebody said so."""

    round: int
    review: str | None
    checkpoint: str | None
    weights_hash: str | None
    pass_rate: float | None


@dataclass(frozen=True)
class Answer:
    """A candidate with what the judges said of it."""

    candidate: CandidateLine
    judgements: Sequence[JudgementLine]
    pairs: Sequence[PairLine] = ()


@dataclass(frozen=True)
class PairInFull:
    pair: PairLine
    prompt: PromptLine | None
    chosen: Answer | None
    rejected: Answer | None
    trainings: Sequence[Training]
    history: Sequence[Review]
    review: Review | None
    #: Whether the run has the last review in its store already.
    taken_in: bool
    previous: str | None
    next: str | None


@dataclass(frozen=True)
class PromptInFull:
    prompt: PromptLine
    answers: Sequence[Answer]
    rounds: Sequence[int]
    #: Why it gave no pair in this round, where it gave none.
    unpaired: str | None


@dataclass(frozen=True)
class Page(Generic[R]):
    """Some rows and where the next ones begin; ``scanned`` of ``total`` rows were looked at, where a search stopped early."""

    rows: Sequence[R]
    after: str | None = None
    scanned: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class JudgementInList:
    judgement: JudgementLine
    answer: str


@dataclass(frozen=True)
class ReviewInList:
    review: Review
    holds: bool
    taken_in: bool
    trained_rounds: Sequence[int] = field(default_factory=tuple)
