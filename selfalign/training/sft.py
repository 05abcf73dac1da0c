"""Supervised fine-tuning on wanted completions, by TRL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from selfalign.errors import EmptyStage
from selfalign.protocols import TrainingJob
from selfalign.training.settings import TrainingSettings
from selfalign.types import TrainingResult


class SFTConfig(TrainingSettings):
    """Settings of the ``sft`` trainer."""

    id: Literal["sft"] = "sft"
    learning_rate: float = Field(1e-5, ge=0)
    average: Literal["tokens", "examples"] = Field(
        "tokens",
        description="mean NLL over a step's completion tokens, or over its examples' own means: a verdict of one "
        "token then counts as much as an answer of a hundred",
    )


class SFTTrainer:
    """Mean NLL of completions, by token or by example; prompts are read, never learned.

    ``TrainingResult.metrics``, over the first 64 examples in order of id, with the weights as written:

    - ``nll``, ``nll_parent``: mean NLL a completion token, after and before training
    - ``logp_change``: mean over examples of the completion's log-probability change, in nats
    - ``train_loss``: mean over the last tenth of the steps; ``train_loss_first``; ``steps``
    - ``guard_loss``, ``guard_loss_expected``, ``guard_logp_gap``: the step-1 guards (guards.py)
    """

    name = "sft"
    needs = "completions"
    Config: ClassVar[type[SFTConfig]] = SFTConfig

    def __init__(self, config: SFTConfig) -> None:
        self.config = config

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.completions`` from ``job.parent`` and write ``job.output``; raises as PairTrainer.train."""
        if not job.completions:
            raise EmptyStage("no completions to train on; nothing was selected in this round")
        from selfalign.training.sft_run import train

        return train(self.config, job)
