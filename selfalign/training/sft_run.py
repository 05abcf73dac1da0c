"""The run of the ``sft`` trainer; imports torch and TRL, so only SFTTrainer.train imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trl
from datasets import Dataset

from selfalign.identity import hash_weights
from selfalign.protocols import TrainingJob
from selfalign.training import loop
from selfalign.training.dataset import completion_columns, fit_completions, training_order
from selfalign.training.guards import Tolerance, check_log_probs, check_loss
from selfalign.training.logprobs import checkpoint_log_probs, give_back_memory
from selfalign.training.policy import quiet
from selfalign.training.sft_trl import CompletionCollator, CompletionTrainer
from selfalign.types import CompletionExample, TokenSequence, TrainingResult

if TYPE_CHECKING:
    from selfalign.training.sft import SFTConfig

_MEASURED = 64


@quiet()
def train(config: SFTConfig, job: TrainingJob) -> TrainingResult:
    """See SFTTrainer.train."""
    examples = fit_completions(job.completions, loop.length_limit(config, job.parent))
    loop.check_space(config, job)
    parent_hash = hash_weights(job.parent)
    lengths = [len(e.prompt_ids) + len(e.completion_ids) for e in examples]
    order = training_order(lengths, config.epochs, config.batch_size, job.seed, config.length_bucketing)
    first = [examples[i] for i in order[: config.micro_batch()]]
    measured = sorted(examples, key=lambda e: e.example_id)[:_MEASURED]
    wanted = _sequences([*first, *measured])
    parent = checkpoint_log_probs(job.parent, parent_hash, wanted, job.scratch, config.quantised)

    def guard(trainer: Any) -> dict[str, float]:
        return step_one_guards(trainer, first, parent[: len(first)], loop.arithmetic(job))

    trainer = _trainer(config, job, Dataset.from_dict(completion_columns(examples)).select(order))
    identity = [[e.example_id, e.prompt_ids, e.completion_ids, e.weight] for e in examples]
    fingerprint = loop.training_fingerprint(config, job.seed, parent_hash, identity)
    history, guarded = loop.run(trainer, fingerprint, job.scratch, job.report, guard, config.save_every)
    loop.write_output(trainer, config, job, parent_hash, len(history))
    del trainer
    give_back_memory()

    final_hash = hash_weights(job.output)
    policy = checkpoint_log_probs(job.output, final_hash, _sequences(measured), job.scratch, config.quantised)
    before = parent[len(first) :]
    tokens = sum(len(e.completion_ids) for e in measured)
    metrics = {
        **loop.loss_figures(history),
        **guarded,
        "nll": -math.fsum(policy) / tokens,
        "nll_parent": -math.fsum(before) / tokens,
        "logp_change": (math.fsum(policy) - math.fsum(before)) / len(measured),
    }
    return TrainingResult(metrics, history, n_examples=len(examples), reference_hash=None)


def _sequences(examples: Sequence[CompletionExample]) -> list[TokenSequence]:
    return [TokenSequence(e.prompt_ids, e.completion_ids) for e in examples]


def _trainer(config: SFTConfig, job: TrainingJob, dataset: Dataset) -> Any:
    settings = {
        **loop.arguments(config, len(dataset), job.seed, job.scratch),
        # Labels are ready; TRL would only look for text to tokenise.
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    return loop.make_trainer(CompletionTrainer, trl.SFTConfig(**settings), config, job, dataset, CompletionCollator)


def step_one_guards(
    trainer: CompletionTrainer,
    examples: Sequence[CompletionExample],
    parent: Sequence[float],
    tolerance: Tolerance | None = None,
) -> dict[str, float]:
    """The first batch starts at the parent's log-probabilities, and so at its mean NLL a token.

    Raises:
        GuardFailed: training would start from other weights than the parent's.
    """
    observed = loop.first_batch_loss(trainer)
    tolerance = tolerance or loop.arithmetic()
    gap = check_log_probs(trainer.last_log_probs.tolist(), parent, tolerance)
    weighted = math.fsum(e.weight * value for e, value in zip(examples, parent, strict=True))
    expected = -weighted / sum(len(e.completion_ids) for e in examples)
    check_loss(observed, expected, tolerance)
    return {"guard_loss": observed, "guard_loss_expected": expected, "guard_logp_gap": gap}
