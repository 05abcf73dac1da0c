"""What a report says of one run, as typed rows.

Where a class names a view, its fields are columns of that view: the page and ``selfalign sql`` say the same. A store of an
older version may lack a column, which is then None in every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True)
class Summary:
    """A round and the model it ended with."""

    view: ClassVar[str] = "round_summary"
    order: ClassVar[str] = "round"
    round: int
    model: str
    prompts: int
    candidates: int
    judgements: int
    valid_judgements: float | None
    pairs: int
    labels: int | None
    rankings: int | None
    replayed: int | None
    judge_accuracy: float | None
    judge_accuracy_low: float | None
    judge_accuracy_high: float | None
    pass_rate_strict: float | None
    pass_rate_strict_low: float | None
    pass_rate_strict_high: float | None
    delta_vs_m0: float | None
    delta_vs_m0_low: float | None
    delta_vs_m0_high: float | None
    win_rate_vs_previous: float | None
    win_rate_vs_previous_low: float | None
    win_rate_vs_previous_high: float | None
    mean_length: float | None
    gate: str | None
    gate_failed: str | None
    seconds: float | None


@dataclass(frozen=True)
class Measured:
    """A figure of M_round with its 95 % interval; ``branch`` is None for the run as it stands."""

    view: ClassVar[str] = "all_evaluations"
    order: ClassVar[str] = "branch NULLS FIRST, metric, split, round"
    branch: str | None
    round: int
    metric: str
    split: str
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class JudgeFigure:
    """What the gold set said of a judge that has M_round's weights; ``whole``: the run's own, not a member of it."""

    view: ClassVar[str] = "judge_figures"
    order: ClassVar[str] = "branch NULLS FIRST, whole DESC, judge, split, metric, round"
    branch: str | None
    round: int
    judge: str
    whole: bool
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    split: str


@dataclass(frozen=True)
class KindFigure:
    """How often a judge that has M_round's weights is right on gold items of one kind."""

    view: ClassVar[str] = "judge_by_kind"
    order: ClassVar[str] = "branch NULLS FIRST, whole DESC, judge, split, kind, round"
    branch: str | None
    round: int
    judge: str
    whole: bool
    kind: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    split: str


@dataclass(frozen=True)
class Flips:
    """Held-out answers of M_round that pass where M_round-1's did not (gained), or the other way round (lost)."""

    view: ClassVar[str] = "held_out_flips"
    order: ClassVar[str] = "round"
    round: int
    answers: int
    gained: int
    lost: int


@dataclass(frozen=True)
class Reviewed:
    """What people say of the pairs that a round made, the inbox included; of each pair the last word that holds.

    ``agreement``: accepted of those that were accepted or flipped. ``changed`` counts the flips and rejections that
    trainings honoured, by their round.
    """

    round: int
    accepted: int
    flipped: int
    rejected: int
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    changed: Mapping[int, int]


@dataclass(frozen=True)
class Health:
    """Votes of a judge in a round by what became of them."""

    view: ClassVar[str] = "judge_health"
    order: ClassVar[str] = "round, judge"
    round: int
    judge: str
    votes: int
    ok: int
    parse_error: int
    out_of_range: int
    truncated: int
    refused: int
    tie: int
    disagree: int
    ok_rate: float
    mean_score: float | None
    sd_score: float | None
    share_at_mode: float | None


@dataclass(frozen=True)
class Agreement:
    """How often a judge orders two answers as the verifier does; 0.5 is chance."""

    view: ClassVar[str] = "judge_agreement"
    order: ClassVar[str] = "judge, round"
    round: int
    judge: str
    n: int
    agreement: float


@dataclass(frozen=True)
class ScoreBin:
    """Share of a judge's scores in one of ten bins."""

    view: ClassVar[str] = "score_histogram"
    order: ClassVar[str] = "judge, round, bin_low"
    round: int
    judge: str
    bin_low: float
    bin_high: float
    n: int
    share: float


@dataclass(frozen=True)
class Length:
    """Lengths in tokens of one kind of text in a round."""

    view: ClassVar[str] = "length_drift"
    order: ClassVar[str] = "kind, round"
    round: int
    kind: str
    n: int
    mean_tokens: float
    median_tokens: float
    p95_tokens: float
    cut_share: float


@dataclass(frozen=True)
class Diversity:
    """Whether sampling of training candidates still explores."""

    view: ClassVar[str] = "candidate_diversity"
    order: ClassVar[str] = "round"
    round: int
    candidates: int
    distinct_per_prompt: float
    duplicate_share: float
    seen_before: int


@dataclass(frozen=True)
class Step:
    """How many of a round's prompts got as far as ``name``."""

    view: ClassVar[str] = "yield_funnel"
    order: ClassVar[str] = "round, step"
    round: int
    step: int
    name: str
    prompts: int
    row_count: int
    share: float


@dataclass(frozen=True)
class Fate:
    """Prompts of a round by what became of them."""

    view: ClassVar[str] = "yields"
    order: ClassVar[str] = "round, reason"
    round: int
    reason: str
    prompts: int


@dataclass(frozen=True)
class Decision:
    """What a gate said of a round, and what followed."""

    view: ClassVar[str] = "gate_decisions"
    order: ClassVar[str] = "round, branch NULLS FIRST, gate, figure"
    branch: str | None
    round: int
    rule: str
    figure: str
    verdict: str
    done: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    threshold: float | None
    action: str | None
    reason: str


@dataclass(frozen=True)
class Cost:
    """What a stage of a round cost."""

    view: ClassVar[str] = "cost_by_stage"
    order: ClassVar[str] = "first_started, round, stage"
    round: int
    stage: str
    status: str
    attempts: int
    seconds: float | None
    share: float | None
    rows_out: int | None
    tokens_written: int | None
    tokens_read: int | None


@dataclass(frozen=True)
class Training:
    """What a round's training started from and was given."""

    view: ClassVar[str] = "round_policy"
    order: ClassVar[str] = "round"
    round: int
    starts_from: str
    reference: str | None
    n_examples: int | None
    replayed: int
    trainer: str | None
    method: str | None
    learning_rate: float | None
    beta: float | None


@dataclass(frozen=True)
class Branch:
    """Rows that were set aside."""

    view: ClassVar[str] = "branches"
    order: ClassVar[str] = "created_at, branch"
    branch: str
    created_at: datetime
    from_round: int
    from_stage: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Side:
    """One answer of an example; ``role`` is chosen, rejected, wanted, not wanted, or its place."""

    role: str
    text: str
    score: float | None
    tokens: int | None


@dataclass(frozen=True)
class Example:
    """Two answers to read, the better and the worse one: what a round trained on, or a held-out answer that changed.

    A label may lack one of them. ``decided_by`` and ``builder`` are empty where there is none.
    """

    round: int
    kind: str
    prompt: str
    better: Side | None
    worse: Side | None
    margin: float | None
    decided_by: str
    builder: str
    key: str


@dataclass(frozen=True)
class About:
    """The run itself."""

    run: str
    seed: int
    version: str
    begun: datetime
    origin: Mapping[str, Any] | None
    config: Mapping[str, Any]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """Where the run is: ``at_work`` while a process holds it, ``words`` for people."""

    at_work: bool
    words: str


@dataclass(frozen=True)
class RunFigures:
    """All that a report says of one run. ``gaps`` names what its store, being older, has not."""

    label: str
    workspace: str
    read_at: datetime
    about: About | None
    standing: Standing
    rounds: Sequence[Summary] = ()
    measured: Sequence[Measured] = ()
    judge_figures: Sequence[JudgeFigure] = ()
    judge_by_kind: Sequence[KindFigure] = ()
    flips: Sequence[Flips] = ()
    reviewed: Sequence[Reviewed] = ()
    health: Sequence[Health] = ()
    agreement: Sequence[Agreement] = ()
    scores: Sequence[ScoreBin] = ()
    lengths: Sequence[Length] = ()
    diversity: Sequence[Diversity] = ()
    funnel: Sequence[Step] = ()
    fates: Sequence[Fate] = ()
    decisions: Sequence[Decision] = ()
    costs: Sequence[Cost] = ()
    training: Sequence[Training] = ()
    branches: Sequence[Branch] = ()
    examples: Sequence[Example] = ()
    changes: Sequence[Example] = ()
    gaps: Sequence[str] = ()
