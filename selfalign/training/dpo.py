"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290), by TRL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from selfalign.errors import EmptyStage
from selfalign.protocols import TrainingJob
from selfalign.training.settings import TrainingSettings
from selfalign.types import TrainingResult


class DPOConfig(TrainingSettings):
    """Settings of the ``dpo`` trainer."""

    id: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    nll_weight: float = Field(0.0, ge=0, description="adds this times the chosen answers' NLL, against displacement")
    reference: Literal["previous", "initial"] = Field("previous", description="M_t-1, or the run's first weights")


class DPOTrainer:
    """DPO on token ids, with reference log-probabilities computed once, before training.

    ``TrainingResult.metrics``, over the first 64 pairs in order of id, with the weights as written
    (a = policy - reference of the chosen answer, b of the rejected one, summed over tokens, in nats;
    "parent" is the checkpoint this round started from):

    - ``chosen_displacement``, ``rejected_displacement``: mean a, mean b; ``..._per_token`` divides
      each by its answer's length. Both falling while the margin grows is likelihood displacement.
    - ``chosen_logp_change``, ``rejected_logp_change``: the same against the parent
    - ``reward_margin``: beta * mean(a - b); ``reward_accuracy``: share of a > b
    - ``ranking_accuracy``: share of pairs whose chosen answer is at least as likely as the rejected
      one (arXiv 2405.19534), ``ranking_accuracy_parent`` before training
    - ``train_loss``: mean over the last tenth of the steps; ``train_loss_first``; ``steps``
    - ``guard_loss``, ``guard_loss_expected``, ``guard_logp_gap``: the step-1 guards (guards.py)
    """

    name = "dpo"
    needs = "pairs"
    Config: ClassVar[type[DPOConfig]] = DPOConfig

    def __init__(self, config: DPOConfig) -> None:
        self.config = config

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.pairs`` against ``job.reference`` and write ``job.output``.

        Raises:
            EmptyStage: no pairs.
            BadInput: a pair that cannot be trained on, e.g. a prompt longer than max_length - 1.
            GuardFailed: training would start, or has ended, in the wrong place.
            StageFailed: not finite loss or a full disk.
        """
        if not job.pairs:
            raise EmptyStage(
                "no pairs to train on: the pair builder dropped every prompt; sample more candidates or ask for less margin"
            )
        from selfalign.training.dpo_run import train

        return train(self.config, job)
