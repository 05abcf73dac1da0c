"""The run of the ``kto`` trainer; imports torch and TRL, so only KTOTrainer.train imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import trl
from datasets import Dataset

from selfalign.errors import BadInput
from selfalign.protocols import TrainingJob
from selfalign.training import frame, loop
from selfalign.training.dataset import fit_labels, training_order
from selfalign.training.frame import LogProbs, Material
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.kto_rows import LabelRow, balance, label_columns, label_rows
from selfalign.training.kto_trl import LabelCollator, LabelTrainer
from selfalign.training.losses.unary import kl_estimate, kto_losses
from selfalign.training.settings import MEASURED
from selfalign.types import LabelExample, TokenSequence, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.kto import KTOConfig


def train(config: KTOConfig, job: TrainingJob) -> TrainingResult:
    """See KTOTrainer.train."""
    return frame.train(_Kto(config, class_weights(config, job.labels)), config, job)


def class_weights(config: KTOConfig, labels: Sequence[LabelExample]) -> tuple[float, float]:
    """(lambda_D, lambda_U).

    Raises:
        BadInput: the examples of a class have no weight at all.
    """
    totals = {wanted: _total([e for e in labels if e.label == wanted]) for wanted in (True, False)}
    for wanted, total in totals.items():
        if not total > 0:
            raise BadInput(f"the {'desirable' if wanted else 'undesirable'} labels have weight {total:g} in total")
    if config.weights == "given":
        return config.desirable_weight, config.undesirable_weight
    return balance(totals[True], totals[False])


def _total(labels: Sequence[LabelExample]) -> float:
    return math.fsum(example.weight for example in labels)


class _Kto:
    compares = True

    def __init__(self, config: KTOConfig, class_weights: tuple[float, float]) -> None:
        self.config = config
        self.class_weights = class_weights

    def material(self, job: TrainingJob, max_length: int) -> Material[LabelRow]:
        examples = fit_labels(job.labels, max_length)
        # Micro-batches estimate z0: sorted by length, as elsewhere, they would do so for short and long answers apart.
        mixed = self.config.batch_size if self.config.length_bucketing else 1
        lengths = [len(e.prompt_ids) + len(e.completion_ids) for e in examples]
        order = training_order(lengths, self.config.epochs, mixed, job.seed, self.config.length_bucketing)
        if len(order) < 2:
            raise BadInput(f"KTO needs two examples at least, epochs {self.config.epochs:g} leaves {len(order)}")
        rows = label_rows([examples[i] for i in order], self.config.micro_batch(), max_length)
        by_id = sorted(examples, key=lambda e: e.label_id)
        half = MEASURED // 2
        some = [e for wanted in (True, False) for e in [e for e in by_id if e.label == wanted][:half]]
        return Material(rows, label_rows(some, len(some), max_length), len(examples), self._figures(examples, rows))

    def _figures(self, examples: Sequence[LabelExample], rows: Sequence[LabelRow]) -> dict[str, float]:
        wanted, unwanted = ([e for e in examples if e.label == side] for side in (True, False))
        desirable, undesirable = self.class_weights
        return {
            "n_desirable": float(len(wanted)),
            "n_undesirable": float(len(unwanted)),
            "desirable_weight": desirable,
            "undesirable_weight": undesirable,
            "balance": desirable * _total(wanted) / (undesirable * _total(unwanted)),
            "kl_mismatched": _mean([float(row.mismatched) for row in rows]),
        }

    def sequences(self, row: LabelRow) -> tuple[TokenSequence, ...]:
        return TokenSequence(row.prompt_ids, row.completion_ids), TokenSequence(row.prompt_ids, row.kl_ids)

    def columns(self, rows: Sequence[LabelRow], reference: LogProbs) -> dict[str, list[Any]]:
        return label_columns(rows, reference)

    def trainer(self, job: TrainingJob, dataset: Dataset) -> LabelTrainer:
        args = trl.KTOConfig(
            **loop.arguments(self.config, len(dataset), job.seed, job.scratch),
            beta=self.config.beta,
            desirable_weight=self.class_weights[0],
            undesirable_weight=self.class_weights[1],
            # Makes TRL load no reference model of its own; the columns are already there.
            precompute_ref_log_probs=True,
        )
        trainer: LabelTrainer = loop.make_trainer(LabelTrainer, args, self.config, job, dataset, LabelCollator)
        return trainer

    def guard(
        self,
        trainer: LabelTrainer,
        rows: Sequence[LabelRow],
        parent: LogProbs,
        reference: LogProbs,
        tolerance: Tolerance,
    ) -> dict[str, float]:
        """Half of each row's weight where the reference is the parent, and what the loss itself says otherwise."""
        observed = loop.first_batch_loss(trainer)
        own, others = (list(values) for values in zip(*parent, strict=True))
        gap = max(
            check_log_probs(trainer.last_log_probs.tolist(), own, tolerance),
            check_log_probs(trainer.last_kl_log_probs.tolist(), others, tolerance),
        )
        expected = expected_loss(rows, parent, reference, self.config.beta, self.class_weights)
        # A beta or a weight magnifies the noise of log-probabilities.
        check_loss(observed, expected, tolerance, scale=self.config.beta / 0.1 * max(self.class_weights))
        return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}

    def figures(
        self, rows: Sequence[LabelRow], policy: LogProbs, parent: LogProbs, reference: LogProbs
    ) -> dict[str, float]:
        """Figures of KTOTrainer's docstring."""
        moved = [p[0] - r[0] for p, r in zip(policy, reference, strict=True)]
        changed = [p[0] - q[0] for p, q in zip(policy, parent, strict=True)]
        kl = kl_estimate(*(_column(values, 1) for values in (policy, reference)))
        found = {"measured": float(len(rows)), "kl_estimate": float(kl)}
        for name, wanted in (("desirable", True), ("undesirable", False)):
            here = [i for i, row in enumerate(rows) if row.label == wanted]
            found[f"{name}_measured"] = float(len(here))
            found[f"{name}_displacement"] = _mean([moved[i] for i in here])
            found[f"{name}_displacement_per_token"] = _mean([moved[i] / len(rows[i].completion_ids) for i in here])
            found[f"{name}_logp_change"] = _mean([changed[i] for i in here])
        margin = found["desirable_displacement"] - found["undesirable_displacement"]
        return {**found, "reward_margin": self.config.beta * margin}


def expected_loss(
    rows: Sequence[LabelRow],
    parent: LogProbs,
    reference: LogProbs,
    beta: float,
    class_weights: tuple[float, float],
) -> float:
    """Loss of one micro-batch at the parent's log-probabilities (own completion, completion for z0), in float64."""
    z0 = kl_estimate(_column(parent, 1), _column(reference, 1))
    labels = torch.tensor([row.label for row in rows])
    losses = kto_losses(_column(parent, 0), _column(reference, 0), labels, z0, beta, *class_weights)
    return float((torch.tensor([row.weight for row in rows], dtype=torch.float64) * losses).mean())


def _column(values: LogProbs, number: int) -> Any:
    return torch.tensor([row[number] for row in values], dtype=torch.float64)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
