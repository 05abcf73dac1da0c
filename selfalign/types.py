"""The rows every stage reads and writes.

Each frozen dataclass that maps to a table has exactly that table's columns, in order (checked by
a test), so that a row, an Arrow record and a SQL row are the same thing. JSON columns hold text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Split = Literal["train", "held_out"]
GoldSplit = Literal["teach", "calibrate", "test"]
FinishReason = Literal["stop", "length"]
Origin = Literal["demonstration", "positive", "negative", "imported"]
Outcome = Literal["ok", "parse_error", "out_of_range", "truncated", "refused", "tie", "disagree"]

ReviewDecision = Literal["accept", "flip", "reject", "withdraw"]

#: ``{"role": ..., "content": ...}`` as chat templates take it.
Message = Mapping[str, str]


@dataclass(frozen=True)
class Prompt:
    """An instruction as used in one round. ``kwargs`` is a JSON list, one object per instruction id.

    ``answer`` is one that is known to be good, where the source has it: the text of the prompt's demonstration.
    """

    prompt_id: str
    round: int
    split: Split
    text: str
    language: str
    category: str
    origin: str
    parent_id: str | None
    rouge_max: float | None
    instruction_id_list: tuple[str, ...]
    kwargs: str
    answer: str | None = None


@dataclass(frozen=True)
class Candidate:
    """One completion of a prompt, sampled unless ``origin`` says otherwise.

    ``round`` is the round whose stage made it: training candidates of round t come from M_{t-1},
    held-out ones of round t from M_t; ``weights_hash`` says which weights in fact did, or "served:" and a server's name
    of its model: nobody can hash that, and ``logprob`` is then the server's, or NaN.
    ``token_ids`` are the sampled tokens without the end token, which is ``end_token_id`` (None where
    ``finish_reason`` is "length"; models may have several). ``logprob`` is the sum over all of them in nats
    under the untempered policy.

    ``origin`` is None where the prompt was shown as it is, "positive" or "negative" where ``generate.contrast`` showed
    it in that way (``n_prompt_tokens`` and ``logprob`` are then those of what was shown), and "demonstration" for the
    prompt's own answer: nobody sampled it, so that ``weights_hash`` is empty and ``sample_idx`` -1, and ``logprob`` is
    that of the weights which sampled the others. "imported": an answer of a file of preferences, in round 0;
    ``weights_hash`` is "imported:" and the file's name, and ``logprob`` NaN.
    """

    candidate_id: str
    prompt_id: str
    round: int
    split: Split
    sample_idx: int
    weights_hash: str
    engine: str
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int
    text: str
    token_ids: tuple[int, ...]
    n_tokens: int
    n_prompt_tokens: int
    finish_reason: FinishReason
    end_token_id: int | None
    logprob: float
    origin: Origin | None = None

    @property
    def sampled_ids(self) -> tuple[int, ...]:
        """Every token the policy sampled, the end token included where it ended by itself."""
        return self.token_ids if self.end_token_id is None else (*self.token_ids, self.end_token_id)


@dataclass(frozen=True)
class Judgement:
    """One vote of one judge. ``score`` is None unless ``outcome`` is "ok"; ``raw`` is kept verbatim."""

    judgement_id: str
    candidate_id: str
    round: int
    judge: str
    judge_hash: str
    weights_hash: str | None
    sample_idx: int
    score: float | None
    outcome: Outcome
    raw: str
    seed: int | None
    detail: str


@dataclass(frozen=True)
class GoldJudgement:
    """A judgement of an answer of the gold set, by M_round: as :class:`Judgement`, with the gold item it belongs to.

    Kept apart, as gold answers are no candidates: nothing trains on them.
    """

    judgement_id: str
    gold_key: str
    split: GoldSplit
    candidate_id: str
    round: int
    judge: str
    judge_hash: str
    weights_hash: str | None
    sample_idx: int
    score: float | None
    outcome: Outcome
    raw: str
    seed: int | None
    detail: str


@dataclass(frozen=True)
class Selection:
    """What a resampler did with a candidate."""

    selection_id: str
    round: int
    prompt_id: str
    candidate_id: str
    resampler: str
    accepted: bool
    accept_order: int | None
    score: float | None
    detail: str


@dataclass(frozen=True)
class Pair:
    """A preference pair; scores are the judge's means, ``margin`` = chosen - rejected."""

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
    #: Tokens of the two answers, so that lengths of all rounds are read without their candidates; None in older stores.
    chosen_tokens: int | None = None
    rejected_tokens: int | None = None


@dataclass(frozen=True)
class UnaryLabel:
    """A desirable/undesirable label for KTO."""

    label_id: str
    prompt_id: str
    round: int
    candidate_id: str
    label: bool
    score: float
    builder: str
    weight: float


@dataclass(frozen=True)
class Ranking:
    """Candidates of one prompt with their scores, for listwise losses: ``candidate_ids`` and ``scores`` line up."""

    ranking_id: str
    prompt_id: str
    round: int
    candidate_ids: tuple[str, ...]
    scores: tuple[float, ...]
    judge: str
    builder: str
    weight: float


@dataclass(frozen=True)
class Lesson:
    """What a round that teaches the judge trains on: what the model is shown, and the answer it should give.

    ``kind`` is "judge" (a verdict that is known without a judge) or "instruction" (a good answer, mixed in
    so that the model does not forget to be an assistant). ``subject_id`` is the gold item's key or a candidate's
    id. ``messages`` is a JSON list. ``ends`` says whether the end token is learned after ``answer``.
    """

    lesson_id: str
    round: int
    kind: Literal["judge", "instruction"]
    source: str
    subject_id: str
    judge: str
    judge_hash: str
    messages: str
    answer_prefix: str
    answer: str
    ends: bool
    weight: float


@dataclass(frozen=True)
class MetaJudgement:
    """Two judgements of one candidate by one judge, compared in one order: ``first_id`` was shown before ``second_id``.

    ``meta_hash`` is that of everything but weights that the verdict depends on. ``winner`` and ``p_first``, the
    probability that the first one is better (1 or 0 where a verdict was written), are None unless ``outcome`` is "ok";
    ``raw`` is kept verbatim, and empty where the verdict is read from logits.
    """

    meta_id: str
    round: int
    candidate_id: str
    judge: str
    judge_hash: str
    first_id: str
    second_id: str
    meta_hash: str
    weights_hash: str
    winner: Literal["first", "second"] | None
    p_first: float | None
    outcome: Outcome
    raw: str
    seed: int | None
    detail: str


@dataclass(frozen=True)
class JudgementPair:
    """A preference pair for the judge: what it was shown, as a JSON list, and a better and a worse judgement.

    Elo scores are in natural units, ``margin`` = chosen - rejected: the log-odds that chosen wins. ``n_verdicts``
    counts the verdicts among all judgements of the candidate.
    """

    pair_id: str
    round: int
    candidate_id: str
    judge: str
    judge_hash: str
    messages: str
    chosen_id: str
    rejected_id: str
    chosen_elo: float
    rejected_elo: float
    margin: float
    n_verdicts: int
    weight: float


@dataclass(frozen=True)
class Replay:
    """A pair, label, ranking or pair of judgements of ``from_round`` that a later ``round`` trained on as well."""

    replay_id: str
    round: int
    from_round: int
    kind: Literal["pair", "judgement_pair", "label", "ranking"]
    example_id: str


@dataclass(frozen=True)
class Review:
    """A person's word on a pair. Of several on one pair the last holds; "withdraw" takes back what was said before.

    ``round`` made the pair. ``reviewed_at`` is ISO 8601 in UTC with microseconds, so that text is in order of time.
    """

    review_id: str
    pair_id: str
    round: int
    decision: ReviewDecision
    note: str
    reviewer: str
    reviewed_at: str


@dataclass(frozen=True)
class Override:
    """What ``round`` trained otherwise than the pair of ``from_round`` says, because of a review.

    "flip": with its sides exchanged; "reject": not at all.
    """

    override_id: str
    round: int
    from_round: int
    pair_id: str
    decision: Literal["flip", "reject"]
    review_id: str


@dataclass(frozen=True)
class Checkpoint:
    """M_t. ``path`` is relative to the workspace where the run owns it."""

    checkpoint_id: str
    round: int
    parent_id: str | None
    weights_hash: str
    path: str
    trainer: str
    method: str
    reference_hash: str | None
    n_examples: int
    n_bytes: int
    config: str
    metrics: str


@dataclass(frozen=True)
class Evaluation:
    """A figure in long form; ``low``/``high`` bound a 95 % interval where there is one."""

    run: str
    round: int
    metric: str
    split: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    detail: str


@dataclass(frozen=True)
class Event:
    """Something worth knowing: a prompt without a pair, a back-off, a guard, a decision."""

    event_id: str
    round: int | None
    stage: str | None
    kind: str
    subject_id: str | None
    message: str
    detail: str


#: Table name of each row class; the store writes by it.
TABLES: Mapping[type, str] = {
    Prompt: "prompts",
    Candidate: "candidates",
    Judgement: "judgements",
    GoldJudgement: "gold_judgements",
    Selection: "selections",
    Pair: "pairs",
    UnaryLabel: "unary_labels",
    Ranking: "rankings",
    Lesson: "lessons",
    MetaJudgement: "meta_judgements",
    JudgementPair: "judgement_pairs",
    Replay: "replays",
    Review: "reviews",
    Override: "overrides",
    Checkpoint: "checkpoints",
    Evaluation: "evaluations",
    Event: "events",
}

Row = (
    Prompt
    | Candidate
    | Judgement
    | GoldJudgement
    | Selection
    | Pair
    | UnaryLabel
    | Ranking
    | Lesson
    | MetaJudgement
    | JudgementPair
    | Replay
    | Review
    | Override
    | Checkpoint
    | Evaluation
    | Event
)


# -- what passes between capabilities without being stored ------------------------------------


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. ``top_k`` 0 and ``top_p`` 1.0 switch those filters off; temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and one seed per wanted sample (``len(seeds)`` is n)."""

    request_id: str
    messages: tuple[Message, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One sample; fields as in :class:`Candidate`."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    end_token_id: int | None
    logprob: float
    n_prompt_tokens: int


@dataclass(frozen=True)
class TokenSequence:
    """Prompt and completion as token ids, for log-probabilities of the completion."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


@dataclass(frozen=True)
class JudgeItem:
    """What a judge sees of a candidate."""

    prompt: Prompt
    candidate: Candidate


@dataclass(frozen=True)
class Exercise:
    """What a judge shows its model, and the verdict that would be right."""

    messages: tuple[Message, ...]
    answer_prefix: str
    answer: str


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate with its judge's mean over valid votes (None if too few).

    ``votes`` are the single opinions behind the score by voter: a jury's members on [0, 1] by their judge_hash, or a
    judge's own valid votes by number.
    """

    candidate: Candidate
    score: float | None
    n_votes: int
    outcomes: Mapping[str, int]
    votes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredGroup:
    """All candidates of one prompt."""

    prompt: Prompt
    candidates: tuple[ScoredCandidate, ...]
    judge: str


@dataclass(frozen=True)
class Unpaired:
    """A prompt that gave no pair, and why."""

    prompt_id: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PairNote:
    """What a builder did to a pair beyond its judge's scores, kept as an event of ``kind``.

    pair_strength: sides exchanged, another margin or weight. pair_score: the pair's scores are the builder's own
    figures; ``detail`` has the judge's as ``chosen_judged`` and ``rejected_judged``.
    """

    pair_id: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["pair_strength", "pair_score"] = "pair_strength"


@dataclass(frozen=True)
class Pairing:
    """What a pair builder returns: nothing is dropped or changed without a reason.

    A builder makes pairs, labels or rankings; ``unpaired`` are the prompts that gave none of what it makes. ``skipped``
    counts, by reason, what else was looked at and made nothing, also in prompts that gave something.
    """

    pairs: tuple[Pair, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    notes: tuple[PairNote, ...] = ()
    labels: tuple[UnaryLabel, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PairExample:
    """A pair as the trainer needs it; completion ids carry the end token only where it was sampled.

    The scores are those of the :class:`Pair`; losses with a target of their own (SPPO) read them. ``smoothing`` is the
    chance that the label is wrong, where somebody measured it. ``round`` made the pair: pairs of one round are given to
    a frozen model together. Pairs of answers and of judgements are trained on alike, and measured apart.
    """

    pair_id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    margin: float
    weight: float
    chosen_score: float = 1.0
    rejected_score: float = 0.0
    smoothing: float | None = None
    round: int = 0
    of: Literal["answers", "judgements"] = "answers"


@dataclass(frozen=True)
class LabelExample:
    """A completion that is wanted or not, for unary losses (KTO)."""

    label_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    label: bool
    weight: float


@dataclass(frozen=True)
class RankingExample:
    """Completions of one prompt with their scores, for listwise losses (RRHF, PRO)."""

    ranking_id: str
    prompt_ids: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]
    weight: float


@dataclass(frozen=True)
class CompletionExample:
    """A prompt and a wanted completion, for SFT.

    Examples of the same ``group`` are seen in the same optimizer step where they fit; each without one is alone.
    """

    example_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float
    group: str | None = None


@dataclass(frozen=True)
class Decision:
    """What a gate's rule says of one figure of a round.

    ``not_applicable``: there is no such figure, or it cannot tell. ``threshold`` is what the figure was held against;
    ``reason`` ends a sentence that begins with the figure, and ``remedy`` says what a person can do about it.
    """

    figure: str
    verdict: Literal["pass", "fail", "not_applicable"]
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    threshold: float | None = None
    remedy: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """``metrics`` are final figures, ``history`` one mapping per logged step."""

    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    n_examples: int
    reference_hash: str | None
