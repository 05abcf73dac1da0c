"""The run of the ``dpo`` trainer; imports torch and TRL, so only DPOTrainer.train imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trl
from datasets import Dataset

from selfalign.identity import hash_weights
from selfalign.protocols import TrainingJob
from selfalign.training import loop
from selfalign.training.dataset import fit_pairs, pair_columns, pair_sequences, training_order
from selfalign.training.dpo_trl import PairCollator, PairTrainer
from selfalign.training.guards import Tolerance, check_log_probs, check_loss, expected_dpo_loss
from selfalign.training.logprobs import checkpoint_log_probs, give_back_memory
from selfalign.training.policy import quiet
from selfalign.types import PairExample, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.dpo import DPOConfig

#: Pairs that the final figures are measured on.
_MEASURED = 64


@quiet()
def train(config: DPOConfig, job: TrainingJob) -> TrainingResult:
    """See DPOTrainer.train."""
    pairs = fit_pairs(job.pairs, loop.length_limit(config, job.parent))
    loop.check_space(config, job)
    parent_hash = hash_weights(job.parent)
    reference_hash = parent_hash if job.reference == job.parent else hash_weights(job.reference)
    sequences = pair_sequences(pairs)
    reference = checkpoint_log_probs(job.reference, reference_hash, sequences, job.scratch, config.quantised)

    order = training_order(_lengths(pairs), config.epochs, config.batch_size, job.seed, config.length_bucketing)
    first = order[: config.micro_batch()]
    measured = sorted(range(len(pairs)), key=lambda i: pairs[i].pair_id)[:_MEASURED]
    if parent_hash == reference_hash:
        first_parent, measured_parent = both_sides(reference, first), both_sides(reference, measured)
    else:
        wanted = both_sides(sequences, first) + both_sides(sequences, measured)
        values = checkpoint_log_probs(job.parent, parent_hash, wanted, job.scratch, config.quantised)
        first_parent, measured_parent = values[: 2 * len(first)], values[2 * len(first) :]

    def guard(trainer: Any) -> dict[str, float]:
        weights = [pairs[i].weight for i in first]
        return step_one_guards(
            trainer, first_parent, both_sides(reference, first), weights, config.beta, loop.arithmetic(job)
        )

    trainer = _trainer(config, job, Dataset.from_dict(pair_columns(pairs, reference)).select(order))
    identity = [[p.pair_id, p.prompt_ids, p.chosen_ids, p.rejected_ids, p.weight] for p in pairs]
    fingerprint = loop.training_fingerprint(config, job.seed, parent_hash, reference_hash, identity)
    history, guarded = loop.run(trainer, fingerprint, job.scratch, job.report, guard, config.save_every)
    loop.write_output(trainer, config, job, parent_hash, len(history))
    del trainer
    give_back_memory()

    # Measured on the folder just written: what is reported is what the next round will load.
    final_hash = hash_weights(job.output)
    wanted = both_sides(sequences, measured)
    policy = checkpoint_log_probs(job.output, final_hash, wanted, job.scratch, config.quantised)
    figures = pair_figures(
        [pairs[i] for i in measured], policy, both_sides(reference, measured), measured_parent, config.beta
    )
    metrics = {**loop.loss_figures(history), **guarded, **figures}
    return TrainingResult(metrics, history, n_examples=len(pairs), reference_hash=reference_hash)


def _lengths(pairs: Sequence[PairExample]) -> list[int]:
    """Padded length a pair needs: both sides are rows of the same batch."""
    return [len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]


def both_sides(values: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """Entries of the pairs at ``indices`` from [chosen ..., rejected ...], in that same form."""
    half = len(values) // 2
    return [values[i] for i in indices] + [values[half + i] for i in indices]


def _trainer(config: DPOConfig, job: TrainingJob, dataset: Dataset) -> Any:
    settings = {
        **loop.arguments(config, len(dataset), job.seed, job.scratch),
        "beta": config.beta,
        # Makes TRL load no reference model of its own; the columns are already there.
        "precompute_ref_log_probs": True,
    }
    args = trl.DPOConfig(**settings)
    return loop.make_trainer(PairTrainer, args, config, job, dataset, PairCollator, nll_weight=config.nll_weight)


def step_one_guards(
    trainer: PairTrainer,
    parent: Sequence[float],
    reference: Sequence[float],
    weights: Sequence[float],
    beta: float,
    tolerance: Tolerance | None = None,
) -> dict[str, float]:
    """Guards 1 and 2 (guards.py) on the first batch; ``parent`` and ``reference`` are [chosen ..., rejected ...].

    Raises:
        GuardFailed: training would start from the wrong loss or the wrong weights.
    """
    nll_weight, trainer.nll_weight = trainer.nll_weight, 0.0
    try:
        observed = loop.first_batch_loss(trainer)
    finally:
        trainer.nll_weight = nll_weight
    tolerance = tolerance or loop.arithmetic()
    gap = check_log_probs(trainer.last_log_probs.tolist(), parent, tolerance)
    expected = expected_dpo_loss(parent, reference, weights, beta)
    check_loss(observed, expected, tolerance, scale=beta / 0.1)
    return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}


def pair_figures(
    pairs: Sequence[PairExample],
    policy: Sequence[float],
    reference: Sequence[float],
    parent: Sequence[float],
    beta: float,
) -> Mapping[str, float]:
    """Figures of DPOTrainer's docstring, from summed log-probabilities [chosen ..., rejected ...]."""
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
