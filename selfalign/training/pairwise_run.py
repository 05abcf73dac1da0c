"""The run of the trainers on pairs; imports torch and TRL, so only PairTrainer.train imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import trl
from datasets import Dataset

from selfalign.protocols import TrainingJob
from selfalign.training import frame, loop
from selfalign.training.dataset import (
    check_columns,
    easy_to_hard,
    fit_pairs,
    pair_columns,
    pair_sequences,
    repeated,
    training_order,
)
from selfalign.training.frame import LogProbs, Material
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.losses.objective import expected_loss
from selfalign.training.losses.pairwise import PairBatch
from selfalign.training.losses.pairwise_settings import PairLoss
from selfalign.training.pairwise_trl import PairCollator, PairwiseTrainer
from selfalign.training.settings import MEASURED
from selfalign.types import PairExample, TokenSequence, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.pairwise import PairSettings


def train(config: PairSettings, job: TrainingJob) -> TrainingResult:
    """See PairTrainer.train."""
    return frame.train(_Pairwise(config), config, job)


#: What pairs are of -> what the names of their figures begin with.
_PREFIXES = {"answers": "", "judgements": "judgement_"}


class _Pairwise:
    def __init__(self, config: PairSettings) -> None:
        self.config = config
        self.compares = config.needs_reference

    def material(self, job: TrainingJob, max_length: int) -> Material[PairExample]:
        pairs = fit_pairs(job.pairs, max_length)
        for term in self.config.losses():
            check_columns(pairs, term.id, term.reads())
        by_id = sorted(pairs, key=lambda p: p.pair_id)
        measured = [pair for kind in _PREFIXES for pair in [p for p in by_id if p.of == kind][:MEASURED]]
        rows = [pairs[i] for i in _order(self.config, pairs, job.seed)]
        return Material(rows, measured, len(pairs), together=_by_round(pairs))

    def sequences(self, row: PairExample) -> tuple[TokenSequence, ...]:
        return TokenSequence(row.prompt_ids, row.chosen_ids), TokenSequence(row.prompt_ids, row.rejected_ids)

    def columns(self, rows: Sequence[PairExample], reference: LogProbs) -> dict[str, list[Any]]:
        return pair_columns(rows, both_sides(reference) if self.compares else None, _reads(self.config))

    def trainer(self, job: TrainingJob, dataset: Dataset) -> PairwiseTrainer:
        settings = {
            **loop.arguments(self.config, len(dataset), job.seed, job.scratch),
            "beta": _beta(self.config),
            # Makes TRL load no reference model of its own; what the loss needs of one is already there.
            "precompute_ref_log_probs": True,
        }
        trainer: PairwiseTrainer = loop.make_trainer(
            PairwiseTrainer, trl.DPOConfig(**settings), self.config, job, dataset, PairCollator,
            losses=self.config.losses(),
        )  # fmt: skip
        return trainer

    def guard(
        self,
        trainer: PairwiseTrainer,
        rows: Sequence[PairExample],
        parent: LogProbs,
        reference: LogProbs,
        tolerance: Tolerance,
    ) -> dict[str, float]:
        compared_with = both_sides(reference) if self.compares else None
        return step_one_guards(trainer, rows, both_sides(parent), compared_with, self.config, tolerance)

    def figures(
        self, rows: Sequence[PairExample], policy: LogProbs, parent: LogProbs, reference: LogProbs
    ) -> Mapping[str, float]:
        """Figures of PairTrainer's docstring; without a reference the parent is what training moves away from."""
        found: dict[str, float] = {}
        for kind, prefix in _PREFIXES.items():
            own = [i for i, row in enumerate(rows) if row.of == kind]
            after, before, moved_from = (
                both_sides([values[i] for i in own])
                for values in (policy, parent, reference if self.compares else parent)
            )
            figures = pair_figures([rows[i] for i in own], after, moved_from, before, _beta(self.config)) if own else {}
            found |= {f"{prefix}{name}": value for name, value in figures.items()}
        return found


def _by_round(pairs: Sequence[PairExample]) -> list[list[TokenSequence]]:
    """Their completions by the round that made the pairs.

    So what an earlier round computed of the same reference is read again, to the bit, where its pairs are used again.
    """
    ordered = sorted(pairs, key=lambda p: (p.round, p.pair_id))
    return [pair_sequences(list(group)) for _, group in groupby(ordered, key=lambda p: p.round)]


def both_sides(values: LogProbs) -> list[float]:
    """[chosen ..., rejected ...] of rows' (chosen, rejected)."""
    return [chosen for chosen, _ in values] + [rejected for _, rejected in values]


def _order(config: PairSettings, pairs: Sequence[PairExample], seed: int) -> list[int]:
    """Indices of the pairs as the model is to see them, all epochs in one list."""
    if config.order == "shuffled":
        return training_order(_lengths(pairs), config.epochs, config.batch_size, seed, config.length_bucketing)
    return repeated(easy_to_hard(pairs) if config.order == "easy_to_hard" else range(len(pairs)), config.epochs)


def _lengths(pairs: Sequence[PairExample]) -> list[int]:
    """Padded length a pair needs: both sides are rows of the same batch."""
    return [len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]


def _reads(config: PairSettings) -> list[str]:
    return sorted({name for term in config.losses() for name in term.reads()})


def _beta(config: PairSettings) -> float:
    """What the figures multiply log-ratios by; 1 for a loss without a beta."""
    return float(getattr(config, "beta", 1.0))


def step_one_guards(
    trainer: PairwiseTrainer,
    pairs: Sequence[PairExample],
    parent: Sequence[float],
    reference: Sequence[float] | None,
    loss: PairLoss,
    tolerance: Tolerance,
) -> dict[str, float]:
    """Guards 1 and 2 (guards.py) on the first batch, ``pairs``; log-probabilities are [chosen ..., rejected ...].

    Guard 1 is of ``loss`` alone, so that for DPO it reads ln 2 whatever is added to it.

    Raises:
        GuardFailed: training would start from the wrong loss or the wrong weights.
    """
    losses, trainer.losses = trainer.losses, (loss,)
    try:
        observed = loop.first_batch_loss(trainer)
    finally:
        trainer.losses = losses
    gap = check_log_probs(trainer.last_log_probs.tolist(), parent, tolerance)
    batch = pair_batch(pairs, parent, reference, sorted(loss.reads()))
    expected, sensitivity = expected_loss([loss], batch, [p.weight for p in pairs], tolerance.log_prob)
    # The tolerance is made for DPO at beta 0.1, whose sensitivity is 0.1.
    check_loss(observed, expected, tolerance, scale=sensitivity / 0.1)
    return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}


def pair_batch(
    pairs: Sequence[PairExample], policy: Sequence[float], reference: Sequence[float] | None, reads: Sequence[str]
) -> PairBatch:
    """``pairs`` with summed log-probabilities [chosen ..., rejected ...], in float64."""

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    n = len(pairs)
    return PairBatch(
        column(policy[:n]), column(policy[n:]),
        column([len(p.chosen_ids) for p in pairs]), column([len(p.rejected_ids) for p in pairs]),
        ref_chosen=None if reference is None else column(reference[:n]),
        ref_rejected=None if reference is None else column(reference[n:]),
        **{name: column([getattr(p, name) for p in pairs]) for name in reads},
    )  # fmt: skip


def pair_figures(
    pairs: Sequence[PairExample],
    policy: Sequence[float],
    reference: Sequence[float],
    parent: Sequence[float],
    beta: float,
) -> Mapping[str, float]:
    """Figures of PairTrainer's docstring, from summed log-probabilities [chosen ..., rejected ...]."""
    n = len(pairs)
    moved = [p - r for p, r in zip(policy, reference, strict=True)]
    changed = [p - q for p, q in zip(policy, parent, strict=True)]
    a, b = moved[:n], moved[n:]
    return {
        "measured": float(n),
        "chosen_displacement": _mean(a),
        "rejected_displacement": _mean(b),
        "chosen_displacement_per_token": _mean([x / len(p.chosen_ids) for x, p in zip(a, pairs, strict=True)]),
        "rejected_displacement_per_token": _mean([x / len(p.rejected_ids) for x, p in zip(b, pairs, strict=True)]),
        "chosen_logp_change": _mean(changed[:n]),
        "rejected_logp_change": _mean(changed[n:]),
        "reward_margin": beta * _mean([x - y for x, y in zip(a, b, strict=True)]),
        "reward_accuracy": _mean([float(x > y) for x, y in zip(a, b, strict=True)]),
        "ranking_accuracy": _mean([float(w >= x) for w, x in zip(policy[:n], policy[n:], strict=True)]),
        "ranking_accuracy_parent": _mean([float(w >= x) for w, x in zip(parent[:n], parent[n:], strict=True)]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
