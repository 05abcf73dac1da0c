"""The run of the ``sft`` trainer; imports torch and TRL, so only SFTTrainer.train imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trl
from datasets import Dataset

from selfalign.protocols import TrainingJob
from selfalign.training import frame, loop
from selfalign.training.dataset import completion_columns, fit_completions
from selfalign.training.frame import LogProbs, Material
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.settings import MEASURED
from selfalign.training.sft_trl import CompletionCollator, CompletionTrainer
from selfalign.types import CompletionExample, TokenSequence, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.sft import SFTConfig


def train(config: SFTConfig, job: TrainingJob) -> TrainingResult:
    """See SFTTrainer.train."""
    return frame.train(_Sft(config), config, job)


class _Sft:
    compares = False

    def __init__(self, config: SFTConfig) -> None:
        self.config = config

    def material(self, job: TrainingJob, max_length: int) -> Material[CompletionExample]:
        examples = fit_completions(job.completions, max_length)
        lengths = [len(e.prompt_ids) + len(e.completion_ids) for e in examples]
        measured = sorted(examples, key=lambda e: e.example_id)[:MEASURED]
        return Material(
            frame.in_order(examples, lengths, self.config, job.seed, [e.group for e in examples]),
            measured,
            len(examples),
        )

    def sequences(self, row: CompletionExample) -> tuple[TokenSequence, ...]:
        return (TokenSequence(row.prompt_ids, row.completion_ids),)

    def columns(self, rows: Sequence[CompletionExample], reference: LogProbs) -> dict[str, list[Any]]:
        return completion_columns(rows)

    def trainer(self, job: TrainingJob, dataset: Dataset) -> CompletionTrainer:
        settings = {
            **loop.arguments(self.config, len(dataset), job.seed, job.scratch),
            # Labels are ready; TRL would only look for text to tokenise.
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        args = trl.SFTConfig(**settings)
        trainer: CompletionTrainer = loop.make_trainer(
            CompletionTrainer, args, self.config, job, dataset, CompletionCollator, average=self.config.average
        )
        return trainer

    def guard(
        self,
        trainer: CompletionTrainer,
        rows: Sequence[CompletionExample],
        parent: LogProbs,
        reference: LogProbs,
        tolerance: Tolerance,
    ) -> dict[str, float]:
        """The first batch starts at the parent's log-probabilities, and so at its mean NLL."""
        observed = loop.first_batch_loss(trainer)
        values = [value for (value,) in parent]
        gap = check_log_probs(trainer.last_log_probs.tolist(), values, tolerance)
        by_example = self.config.average == "examples"
        lengths = [len(row.completion_ids) for row in rows]
        shares = [row.weight / (n if by_example else 1) for row, n in zip(rows, lengths, strict=True)]
        weighted = math.fsum(share * value for share, value in zip(shares, values, strict=True))
        expected = -weighted / (len(rows) if by_example else sum(lengths))
        check_loss(observed, expected, tolerance)
        return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}

    def figures(
        self, rows: Sequence[CompletionExample], policy: LogProbs, parent: LogProbs, reference: LogProbs
    ) -> dict[str, float]:
        after, before = (math.fsum(value for (value,) in values) for values in (policy, parent))
        tokens = sum(len(row.completion_ids) for row in rows)
        return {"nll": -after / tokens, "nll_parent": -before / tokens, "logp_change": (after - before) / len(rows)}
