"""The run of the listwise trainers; imports torch and TRL, so only ListwiseTrainer.train imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import trl
from datasets import Dataset

from selfalign.protocols import TrainingJob
from selfalign.training import frame, loop
from selfalign.training.dataset import TIED, fit_rankings, ranking_columns
from selfalign.training.frame import LogProbs, Material
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.listwise import PROConfig, RRHFConfig
from selfalign.training.listwise_trl import Objective, RankingCollator, RankingTrainer
from selfalign.training.losses.listwise import pro_loss, rrhf_loss
from selfalign.training.settings import MEASURED
from selfalign.types import RankingExample, TokenSequence, TrainingResult


def train(config: RRHFConfig | PROConfig, job: TrainingJob) -> TrainingResult:
    """See ListwiseTrainer.train."""
    return frame.train(_Listwise(config), config, job)


def objective(config: RRHFConfig | PROConfig) -> Objective:
    """The loss of one ranking."""
    if isinstance(config, RRHFConfig):
        return partial(rrhf_loss, ranking_weight=config.ranking_weight, length_penalty=config.length_penalty)
    return partial(pro_loss, sft_weight=config.sft_weight, temperatures=config.temperatures)


class _Listwise:
    compares = False

    def __init__(self, config: RRHFConfig | PROConfig) -> None:
        self.config = config

    def material(self, job: TrainingJob, max_length: int) -> Material[RankingExample]:
        examples = fit_rankings(job.rankings, max_length)
        lengths = [len(e.prompt_ids) + max(map(len, e.completions)) for e in examples]
        measured = sorted(examples, key=lambda e: e.ranking_id)[:MEASURED]
        return Material(frame.in_order(examples, lengths, self.config, job.seed), measured, len(examples))

    def sequences(self, row: RankingExample) -> tuple[TokenSequence, ...]:
        return tuple(TokenSequence(row.prompt_ids, ids) for ids in row.completions)

    def columns(self, rows: Sequence[RankingExample], reference: LogProbs) -> dict[str, list[Any]]:
        return ranking_columns(rows)

    def trainer(self, job: TrainingJob, dataset: Dataset) -> RankingTrainer:
        args = trl.SFTConfig(
            **loop.arguments(self.config, len(dataset), job.seed, job.scratch),
            # Token ids are ready; TRL would only look for text to tokenise.
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        trainer: RankingTrainer = loop.make_trainer(
            RankingTrainer, args, self.config, job, dataset, RankingCollator, objective=objective(self.config)
        )
        return trainer

    def guard(
        self,
        trainer: RankingTrainer,
        rows: Sequence[RankingExample],
        parent: LogProbs,
        reference: LogProbs,
        tolerance: Tolerance,
    ) -> dict[str, float]:
        """The first batch starts at the parent's log-probabilities, and so at the loss that these imply."""
        observed = loop.first_batch_loss(trainer)
        gap = check_log_probs(trainer.last_log_probs.tolist(), [v for values in parent for v in values], tolerance)
        expected = self._expected_loss(rows, parent)
        # Temperatures and (n - 1)^2 magnify the loss and its noise alike.
        check_loss(observed, expected, tolerance, scale=expected)
        return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}

    def _expected_loss(self, rows: Sequence[RankingExample], parent: LogProbs) -> float:
        loss = objective(self.config)
        losses = [
            row.weight * float(loss(_numbers(values), _numbers(map(len, row.completions)), _numbers(row.scores)))
            for row, values in zip(rows, parent, strict=True)
        ]
        return math.fsum(losses) / len(losses)

    def figures(
        self, rows: Sequence[RankingExample], policy: LogProbs, parent: LogProbs, reference: LogProbs
    ) -> dict[str, float]:
        """Figures of ListwiseTrainer's docstring."""
        best = [row.scores.index(max(row.scores)) for row in rows]
        changes = [[p - q for p, q in zip(*values, strict=True)] for values in zip(policy, parent, strict=True)]
        tokens = sum(len(row.completions[i]) for row, i in zip(rows, best, strict=True))
        return {
            "measured": float(len(rows)),
            "rank_accuracy": rank_accuracy(rows, policy),
            "rank_accuracy_parent": rank_accuracy(rows, parent),
            "best_logp_change": _mean([change[i] for change, i in zip(changes, best, strict=True)]),
            "rest_logp_change": _mean(
                [c for change, i in zip(changes, best, strict=True) for j, c in enumerate(change) if j != i]
            ),
            "best_nll": -math.fsum(values[i] for values, i in zip(policy, best, strict=True)) / tokens,
            "best_nll_parent": -math.fsum(values[i] for values, i in zip(parent, best, strict=True)) / tokens,
        }


def rank_accuracy(rows: Sequence[RankingExample], log_probs: LogProbs) -> float:
    """Share of the candidate pairs with different scores of which the better one has the higher token mean."""
    right = []
    for row, values in zip(rows, log_probs, strict=True):
        means = [value / len(ids) for value, ids in zip(values, row.completions, strict=True)]
        right += [
            float(means[i] > means[j])
            for i, better in enumerate(row.scores)
            for j, worse in enumerate(row.scores)
            if better - worse > TIED
        ]
    return _mean(right)


def _numbers(values: Any) -> Any:
    return torch.tensor(list(values), dtype=torch.float64)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
