"""The seams: every kind of plug-in is one small Protocol, registered by name (see registry.py).

Plug-ins take rows and give rows. None of them knows the store, the workspace or Prefect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from selfalign.types import (
    Candidate,
    Completion,
    CompletionExample,
    Decision,
    Evaluation,
    Exercise,
    GenerationRequest,
    JudgeItem,
    Judgement,
    LabelExample,
    Message,
    Pair,
    PairExample,
    Pairing,
    Prompt,
    RankingExample,
    SamplingParams,
    ScoredGroup,
    Selection,
    TokenSequence,
    TrainingResult,
)


@runtime_checkable
class Engine(Protocol):
    """A loaded language model. ``weights_hash`` is that of the weights in memory's source folder.

    Where nobody can hash them, as with a server's, it is "served:" and the model's name there; such an engine only
    samples. An engine's class may have a static ``check(config, device)``, which raises ConfigError before a run's first
    work where something is missing, and its Config ``decides()``: the part of it that answers depend on. An engine may
    have an attribute ``on_tokens`` for a stage to set: a function that it tells, in the middle of a batch, how many
    tokens it has sampled since and how many samples have ended; people see by it how far a long batch is.
    """

    name: str
    weights_hash: str
    tokenizer_hash: str
    context_length: int

    def encode_prompt(self, messages: Sequence[Message], answer_prefix: str = "") -> tuple[int, ...]:
        """Token ids of the chat-templated messages with the generation prompt and ``answer_prefix``."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text: with the tokenizer's own start token where it adds one, without an end token."""
        ...

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        """Batches of indices: length-sorted, within the token budget, a pure function of its arguments.

        A stage plans over its whole input, also on resume, so that a batch always has the same members.
        ``lengths`` are prompt lengths in tokens.
        """
        ...

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        """Sample ``len(request.seeds)`` completions for every request, in order. One call is one batch."""
        ...

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        """Log-probabilities (float64, [len(prompt_ids), len(choices)]) of each choice as the next token(s).

        Not renormalised over the choices: their sum tells how much the model wanted to answer otherwise.
        """
        ...

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        """Per-token log-probabilities (float64, [len(completion_ids)]) of each completion, in order."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


@dataclass(frozen=True)
class JudgeContext:
    """What a judge may use. ``engine`` is None for judges that declare they need none."""

    engine: Engine | None
    run_seed: int
    round: int
    #: Renders and parses prompt files; see templates.py.
    templates: Any


class Judge(Protocol):
    """Scores candidates. A composite judge returns its members' rows as well as its own."""

    name: str
    #: Hash of everything but weights that a judgement depends on (rubric text, parameters, members).
    judge_hash: str
    #: Fewer valid votes than this give a candidate no score.
    min_valid_votes: int
    #: Lowest and highest score.
    score_range: tuple[float, float]

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """Deterministic batches of indices into ``items``."""
        ...

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """Judgements of one batch. A failure of the judge is an outcome, never an exception or a zero."""
        ...


@runtime_checkable
class TeachableJudge(Protocol):
    """A judge whose verdicts can be taught: it says what its model should have answered."""

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """Exercises from two candidates of one prompt, balanced: as many for one verdict as for its opposite.

        None where, as it is configured, nothing of it can be taught.
        """
        ...


@runtime_checkable
class RemoteJudge(Protocol):
    """A judge that asks a server instead of the run's model."""

    name: str
    #: Requests for each candidate.
    asks: int

    def check_access(self) -> None:
        """Without asking anything: raises ConfigError where it lacks what it asks with, such as a key."""
        ...


@runtime_checkable
class WritingJudge(Protocol):
    """A judge whose model writes what ``Judgement.raw`` holds, so that it can be trained to write better ones."""

    #: Judgements that it writes of each candidate.
    written: int

    def asks(self, item: JudgeItem) -> tuple[Message, ...]:
        """What the model is shown before it writes a judgement of ``item``."""
        ...


class PromptSource(Protocol):
    """Yields prompts; deterministic. Rows come with round 0; the stage that uses them sets it."""

    def prompts(self) -> Iterable[Prompt]:
        """All of the source's prompts, in its order."""
        ...


class Resampler(Protocol):
    """Pure: which candidates of each prompt go on to pairing, by their scores; between judge and pair."""

    name: str

    def resample(self, groups: Sequence[ScoredGroup], round: int, seed: int) -> list[Selection]:
        """A row for every candidate that has a score, accepted or not. ``seed`` is the round's own."""
        ...


@dataclass(frozen=True)
class PairingInput:
    """What a pair builder works on.

    ``groups`` hold every judged candidate, or with a resampler only the accepted ones, in order of acceptance.
    ``seed`` is the round's own, for builders that draw.
    """

    round: int
    groups: Sequence[ScoredGroup]
    seed: int = 0


class PairBuilder(Protocol):
    """Pure: judged candidates in; pairs, labels or rankings out, and a reason for every prompt that gave none.

    ``makes`` ("pairs", "labels" or "rankings") says which, and so which trainers can follow. A builder may further
    have these, which are looked at before a run starts:

    - static ``reads(config)``: of "scores" (a judge's), "demonstrations" (candidates that are the prompts' own answers)
      and "contrast" (candidates of both sides) those that it cannot do without; {"scores"} where there is none.
    - static ``at_most(config, candidates)``: rows that a prompt with so many candidates gives at most, on average where a
      round's candidates are taken together; 1 where there is none. For plans.
    - static ``thresholds(config)``: by name of the setting, scores that it holds candidates against, or None.
    - ``only_desirable``: of the labels it makes, all are wanted.
    """

    name: str
    makes: str

    def build(self, data: PairingInput) -> Pairing:
        """Rows of the kind that ``makes`` names, and a reason for every prompt that gave none."""
        ...


@dataclass(frozen=True)
class TrainingJob:
    """Everything a trainer needs; it reads no store.

    Training starts from ``parent``; ``reference`` is what a loss compares with, where it needs one. Both are model
    folders, often the same one, and a trainer must not take them to be (config sections ``policy`` and ``train``).
    ``scratch`` survives a kill: a trainer keeps its own resumable state there and goes on from it.
    ``output`` is written by the trainer as a plain Hugging Face folder; the stage publishes it atomically.
    ``cache`` is the run's: it outlives the job and keeps what can be computed again, such as the log-probabilities of
    frozen weights. Without one ``scratch`` takes its place.
    ``base`` is set where training goes on with the parent's adapter: the folder whose weights that one is added to.
    """

    round: int
    seed: int
    parent: Path
    reference: Path
    output: Path
    scratch: Path
    pairs: Sequence[PairExample] = ()
    completions: Sequence[CompletionExample] = ()
    labels: Sequence[LabelExample] = ()
    rankings: Sequence[RankingExample] = ()
    base: Path | None = None
    #: Called with (done steps, total steps, metrics of the last log).
    report: Callable[[int, int, Mapping[str, float]], None] = field(default=lambda done, total, metrics: None)
    cache: Path | None = None


class Trainer(Protocol):
    """Turns examples into M_t. ``needs`` says which examples: the name of a field of :class:`TrainingJob`.

    "completions" fits whatever a round makes: its good answers.
    """

    name: str
    needs: str

    def train(self, job: TrainingJob) -> TrainingResult:
        """Write M_t to ``job.output``, and say with which figures it ended.

        Raises:
            GuardFailed: training would not start where it has to.
            StageFailed: it went wrong on the way.
        """
        ...


@dataclass(frozen=True)
class EvaluationInput:
    """Held-out rows of the rounds so far: candidates and verifier judgements by round.

    The last two are large, and filled only where an evaluator's ``needs`` names them.
    """

    run: str
    round: int
    prompts: Sequence[Prompt]
    #: round -> judged held-out candidates of M_round
    candidates: Mapping[int, Sequence[JudgeItem]]
    judgements: Mapping[int, Sequence[Judgement]]
    #: final figures of this round's training, e.g. displacement
    training: Mapping[str, float]
    seed: int
    #: examples that this round's training used; 0 where it did not say
    n_trained: int = 0
    #: round -> training candidates of that round, rounds 1 to the present one
    training_candidates: Mapping[int, Sequence[Candidate]] = field(default_factory=dict)
    #: round -> its pairs
    pairs: Mapping[int, Sequence[Pair]] = field(default_factory=dict)


class Evaluator(Protocol):
    """Pure: rows in, figures out.

    An evaluator that works on training rows has a class attribute ``needs`` with the names of the fields of
    :class:`EvaluationInput` that it wants filled ("training_candidates", "pairs").
    """

    name: str

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """Figures of M_round, each with its n; a value of None where there was nothing to measure."""
        ...


@dataclass(frozen=True)
class GateInput:
    """What a gate looks at when a round is over."""

    round: int
    #: every figure of rounds 0 ... ``round``
    evaluations: Sequence[Evaluation]
    #: round -> (training prompts that gave a pair, training prompts)
    yields: Mapping[int, tuple[int, int]]
    #: whether the judge's word counts in the next round: not where that one teaches the judge
    judges_next: bool = True

    def figure(self, metric: str, split: str = "held_out", round: int | None = None) -> Evaluation | None:
        """A figure with a value, of this round by default; None where it was not measured."""
        wanted = (self.round if round is None else round, metric, split)
        found = [e for e in self.evaluations if (e.round, e.metric, e.split) == wanted and e.value is not None]
        return found[0] if found else None


class Gate(Protocol):
    """Pure: figures in, decisions out. Its ``Config`` is a gates.settings.GateSettings, which says what follows."""

    name: str

    def decide(self, data: GateInput) -> Sequence[Decision]:
        """A decision a figure that the rule looks at: pass, fail, or not_applicable where it was not measured."""
        ...
