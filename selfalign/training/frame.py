"""The frame around every method: load, order, score, guard, run, write, measure. Imports torch.

A method is a :class:`Recipe`: its rows, its columns, its trainer, its guards and its figures. All that it has in
common with others (hashes, disk, log-probabilities of parent and reference, resuming, writing) is :func:`train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from datasets import Dataset

from selfalign.identity import hash_weights
from selfalign.protocols import TrainingJob
from selfalign.training import loop
from selfalign.training.dataset import training_order
from selfalign.training.guards import Tolerance
from selfalign.training.logprobs import give_back_memory, grouped_log_probs
from selfalign.training.policy import quiet
from selfalign.training.settings import TrainingSettings
from selfalign.types import TokenSequence, TrainingResult

R = TypeVar("R")
#: Of each row, the summed log-probabilities of its sequences, in nats.
LogProbs = Sequence[tuple[float, ...]]


@dataclass(frozen=True)
class Material(Generic[R]):
    """``rows`` are the examples in the order of training, all epochs; ``measured`` those of the final figures.

    ``n_examples`` counts what the rows were made from, each example once; ``figures`` are of the material itself. Rows
    are dataclasses of plain data. ``together`` are completions whose log-probabilities by the reference are computed
    and kept group by group, for later rounds as well; all in one and for this training where it says none.
    """

    rows: Sequence[R]
    measured: Sequence[R]
    n_examples: int
    figures: Mapping[str, float] = field(default_factory=dict)
    together: Sequence[Sequence[TokenSequence]] = ()


class Recipe(Protocol[R]):
    """What is a method's own. Log-probabilities come and go by row, in the order of the rows."""

    #: Whether the loss compares the policy with ``job.reference``; without, ``reference`` below is empty.
    compares: bool

    def material(self, job: TrainingJob, max_length: int) -> Material[R]:
        """The job's examples, checked and cut to ``max_length`` tokens. Raises BadInput or EmptyStage."""
        ...

    def sequences(self, row: R) -> tuple[TokenSequence, ...]:
        """The completions of a row whose log-probabilities the loss or the figures need."""
        ...

    def columns(self, rows: Sequence[R], reference: LogProbs) -> dict[str, list[Any]]:
        """Columns of the trainer's dataset, one entry a row."""
        ...

    def trainer(self, job: TrainingJob, dataset: Dataset) -> Any:
        """The trainer; see loop.make_trainer."""
        ...

    def guard(
        self, trainer: Any, rows: Sequence[R], parent: LogProbs, reference: LogProbs, tolerance: Tolerance
    ) -> Mapping[str, float]:
        """The step-1 guards (guards.py) on the first micro-batch. Raises GuardFailed."""
        ...

    def figures(
        self, rows: Sequence[R], policy: LogProbs, parent: LogProbs, reference: LogProbs
    ) -> Mapping[str, float]:
        """Final figures of the measured rows, with the weights as written."""
        ...


@quiet()
def train(recipe: Recipe[R], config: TrainingSettings, job: TrainingJob) -> TrainingResult:
    """Train ``job.parent`` by ``recipe`` and write ``job.output``; a training that was cut short is gone on with.

    Raises:
        EmptyStage, BadInput: from the recipe: nothing, or something impossible, to train on.
        GuardFailed: training would start, or has ended, in the wrong place.
        StageFailed: not finite loss or a full disk.
    """
    material = recipe.material(job, loop.length_limit(config, job.parent))
    loop.check_space(config, job)
    rows, measured = material.rows, material.measured
    first = rows[: config.micro_batch()]
    known = _Scores(job.scratch, config)

    def scored(folder: Path, weights_hash: str, *groups: Sequence[R]) -> list[LogProbs]:
        parts = [[recipe.sequences(row) for row in group] for group in groups]
        values = known.of(folder, weights_hash, (s for group in parts for row in group for s in row))
        return [[tuple(values[s] for s in row) for row in group] for group in parts]

    parent_hash = hash_weights(job.parent)
    reference_hash = None
    of_rows: LogProbs = ()
    of_measured: LogProbs = ()
    if recipe.compares:
        reference_hash = parent_hash if job.reference == job.parent else hash_weights(job.reference)
        known.compute(job.reference, reference_hash, material.together, job.cache or job.scratch)
        of_rows, of_measured = scored(job.reference, reference_hash, rows, measured)
    parent_first, parent_measured = scored(job.parent, parent_hash, first, measured)

    trainer = recipe.trainer(job, Dataset.from_dict(recipe.columns(rows, of_rows)))

    def guard(trainer: Any) -> Mapping[str, float]:
        return recipe.guard(trainer, first, parent_first, of_rows[: len(first)], loop.arithmetic(config, job))

    identity = [[vars(row) for row in rows], dict(material.figures)]
    fingerprint = loop.training_fingerprint(config, job.seed, parent_hash, reference_hash, identity)
    history, guarded = loop.run(trainer, fingerprint, job.scratch, job.report, guard, config)
    loop.write_output(trainer, config, job, parent_hash, len(history))
    del trainer
    give_back_memory()

    # Measured on the folder just written: what is reported is what the next round will load.
    (policy,) = scored(job.output, hash_weights(job.output), measured)
    figures = recipe.figures(measured, policy, parent_measured, of_measured)
    metrics = {**loop.loss_figures(history), **guarded, **material.figures, **figures}
    return TrainingResult(metrics, history, n_examples=material.n_examples, reference_hash=reference_hash)


class _Scores:
    """Log-probabilities by checkpoint and completion; what is known is not computed again."""

    def __init__(self, scratch: Path, config: TrainingSettings) -> None:
        self._scratch = scratch
        self._config = config
        self._known: dict[str, dict[TokenSequence, float]] = {}

    def of(self, folder: Path, weights_hash: str, sequences: Iterable[TokenSequence]) -> Mapping[TokenSequence, float]:
        known = self._known.setdefault(weights_hash, {})
        if new := [s for s in dict.fromkeys(sequences) if s not in known]:
            self.compute(folder, weights_hash, [new], self._scratch)
        return known

    def compute(self, folder: Path, weights_hash: str, groups: Sequence[Sequence[TokenSequence]], cache: Path) -> None:
        """Each of ``groups`` by itself, each completion of it once, kept in ``cache``; the first group's word counts."""
        known = self._known.setdefault(weights_hash, {})
        once = [list(dict.fromkeys(group)) for group in groups]
        for group, values in zip(once, grouped_log_probs(folder, weights_hash, once, cache, self._config), strict=True):
            for sequence, value in zip(group, values, strict=True):
                known.setdefault(sequence, value)


def in_order(
    examples: Sequence[R],
    lengths: Sequence[int],
    config: TrainingSettings,
    seed: int,
    groups: Sequence[str | None] | None = None,
) -> list[R]:
    """``examples`` in the order of training, all epochs; see dataset.training_order."""
    order = training_order(lengths, config.epochs, config.batch_size, seed, config.length_bucketing, groups)
    return [examples[index] for index in order]
