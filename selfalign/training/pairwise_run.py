"""The run of the trainers on pairs; imports torch and TRL, so only PairTrainer.train imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import trl
from datasets import Dataset

from selfalign.identity import hash_weights
from selfalign.protocols import TrainingJob
from selfalign.training import loop
from selfalign.training.dataset import (
    check_columns,
    easy_to_hard,
    fit_pairs,
    pair_columns,
    pair_sequences,
    repeated,
    training_order,
)
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.logprobs import checkpoint_log_probs, give_back_memory, grouped_log_probs
from selfalign.training.losses.objective import expected_loss
from selfalign.training.losses.pairwise import PairBatch
from selfalign.training.losses.pairwise_settings import PairLoss
from selfalign.training.pairwise_trl import PairCollator, PairwiseTrainer
from selfalign.training.policy import quiet
from selfalign.training.settings import MEASURED
from selfalign.types import PairExample, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.pairwise import PairSettings


@quiet()
def train(config: PairSettings, job: TrainingJob) -> TrainingResult:
    """See PairTrainer.train."""
    pairs = fit_pairs(job.pairs, loop.length_limit(config, job.parent))
    for term in config.losses():
        check_columns(pairs, term.id, term.reads())
    order = _order(config, pairs, job.seed)
    loop.check_space(config, job)
    parent_hash = hash_weights(job.parent)
    first = order[: config.micro_batch()]
    measured = sorted(range(len(pairs)), key=lambda i: pairs[i].pair_id)[:MEASURED]
    reference_hash: str | None = None
    reference: list[float] | None = None
    if config.needs_reference:
        reference_hash = parent_hash if job.reference == job.parent else hash_weights(job.reference)
        reference = _reference_log_probs(config, job, reference_hash, pairs)
    if reference is not None and reference_hash == parent_hash:
        first_parent, measured_parent = both_sides(reference, first), both_sides(reference, measured)
    else:
        sequences = pair_sequences([pairs[i] for i in first]), pair_sequences([pairs[i] for i in measured])
        values = checkpoint_log_probs(job.parent, parent_hash, [*sequences[0], *sequences[1]], job.scratch, config)
        first_parent, measured_parent = values[: 2 * len(first)], values[2 * len(first) :]
    # Without a reference the parent is what training moves away from.
    measured_from = measured_parent if reference is None else both_sides(reference, measured)

    def guard(trainer: Any) -> dict[str, float]:
        first_reference = None if reference is None else both_sides(reference, first)
        sample = [pairs[i] for i in first]
        return step_one_guards(trainer, sample, first_parent, first_reference, config, loop.arithmetic(config, job))

    trainer = _trainer(config, job, pairs, reference, order)
    read = [*_reads(config), *(["margin"] if config.order == "easy_to_hard" else [])]
    identity = [
        [p.pair_id, p.prompt_ids, p.chosen_ids, p.rejected_ids, p.weight, *(getattr(p, name) for name in read)]
        for p in pairs
    ]
    fingerprint = loop.training_fingerprint(config, job.seed, parent_hash, reference_hash, identity)
    history, guarded = loop.run(trainer, fingerprint, job.scratch, job.report, guard, config)
    loop.write_output(trainer, config, job, parent_hash, len(history))
    del trainer
    give_back_memory()

    # Measured on the folder just written: what is reported is what the next round will load.
    sample = [pairs[i] for i in measured]
    final_hash = hash_weights(job.output)
    policy = checkpoint_log_probs(job.output, final_hash, pair_sequences(sample), job.scratch, config)
    figures = pair_figures(sample, policy, measured_from, measured_parent, _beta(config))
    metrics = {**loop.loss_figures(history), **guarded, **figures}
    return TrainingResult(metrics, history, n_examples=len(pairs), reference_hash=reference_hash)


def _reference_log_probs(
    config: PairSettings, job: TrainingJob, reference_hash: str, pairs: Sequence[PairExample]
) -> list[float]:
    """[chosen ..., rejected ...], computed and kept by the round that made the pairs.

    So what an earlier round computed of the same reference is read again, to the bit, where its pairs are used again.
    """
    ordered = sorted(range(len(pairs)), key=lambda i: (pairs[i].round, pairs[i].pair_id))
    members = [list(group) for _, group in groupby(ordered, key=lambda i: pairs[i].round)]
    groups = [pair_sequences([pairs[i] for i in indices]) for indices in members]
    found = grouped_log_probs(job.reference, reference_hash, groups, job.cache or job.scratch, config)
    result = [0.0] * (2 * len(pairs))
    for indices, values in zip(members, found, strict=True):
        places = indices + [len(pairs) + i for i in indices]
        for place, value in zip(places, values, strict=True):
            result[place] = value
    return result


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


def both_sides(values: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """Entries of the pairs at ``indices`` from [chosen ..., rejected ...], in that same form."""
    half = len(values) // 2
    return [values[i] for i in indices] + [values[half + i] for i in indices]


def _trainer(
    config: PairSettings,
    job: TrainingJob,
    pairs: Sequence[PairExample],
    reference: Sequence[float] | None,
    order: Sequence[int],
) -> PairwiseTrainer:
    settings = {
        **loop.arguments(config, len(order), job.seed, job.scratch),
        "beta": _beta(config),
        # Makes TRL load no reference model of its own; what the loss needs of one is already there.
        "precompute_ref_log_probs": True,
    }
    args = trl.DPOConfig(**settings)
    dataset = Dataset.from_dict(pair_columns(pairs, reference, _reads(config))).select(order)
    trainer: PairwiseTrainer = loop.make_trainer(
        PairwiseTrainer, args, config, job, dataset, PairCollator, losses=config.losses()
    )
    return trainer


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
