"""Trainers on whole rankings: RRHF (Yuan et al., arXiv 2304.05302) and PRO (Song et al., arXiv 2306.17492).

Neither needs a reference model. TRL has no such trainer; the loop is that of ``sft``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from selfalign.errors import EmptyStage
from selfalign.protocols import TrainingJob
from selfalign.training.settings import TrainingSettings
from selfalign.types import TrainingResult


class ListwiseSettings(TrainingSettings):
    """What listwise trainers share. An example is a ranking: a forward pass holds all its completions."""

    micro_batch_size: int = Field(1, ge=1, description="rankings a forward pass; must divide batch_size")


class RRHFConfig(ListwiseSettings):
    """Settings of the ``rrhf`` trainer; defaults are those of its authors' script."""

    id: Literal["rrhf"] = "rrhf"
    learning_rate: float = Field(2e-5, ge=0)
    epochs: float = Field(3.0, gt=0, description="passes over the rankings; 0.5 uses half of them")
    batch_size: int = Field(64, ge=1, description="rankings an optimizer step")
    ranking_weight: float = Field(1.0, ge=0, description="weight of the ranking loss beside the SFT term")
    length_penalty: float = Field(
        1.0, ge=0, description="candidates are compared by log-probability / length^this; 1 is the token mean"
    )


class PROConfig(ListwiseSettings):
    """Settings of the ``pro`` trainer; learning rate and SFT weight are the defaults of its authors' arguments."""

    id: Literal["pro"] = "pro"
    learning_rate: float = Field(1e-6, ge=0)
    sft_weight: float = Field(2.0, ge=0, description="weight of the SFT term, times (candidates - 1)^2")
    temperatures: bool = Field(
        True, description="score differences scale the exponents, so that scores need a scale of about 1; false: plain"
    )


class ListwiseTrainer:
    """Trains on all completions of a prompt at once, ranked by their scores.

    ``TrainingResult.metrics``, over the first 64 rankings in order of id, with the weights as written ("parent" is the
    checkpoint this round started from):

    - ``measured``: how many rankings these are
    - ``rank_accuracy``: share of the candidate pairs with different scores of which the better one has the higher
      log-probability a token; ``rank_accuracy_parent`` before training
    - ``best_logp_change``, ``rest_logp_change``: mean change of the log-probability of the best candidate and of the
      others, summed over tokens, in nats; both falling is likelihood displacement
    - ``best_nll``, ``best_nll_parent``: mean NLL a token of the best candidates
    - ``train_loss``: mean over the last tenth of the steps; ``train_loss_first``; ``steps``
    - ``guard_loss``, ``guard_loss_expected``, ``guard_logp_gap``: the step-1 guards (guards.py)
    """

    name: str
    needs = "rankings"

    def __init__(self, config: RRHFConfig | PROConfig) -> None:
        self.config = config

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.rankings`` from ``job.parent`` and write ``job.output``; raises as DPOTrainer.train.

        Raises:
            BadInput: also for a ranking whose scores are all equal: it ranks nothing.
        """
        if not job.rankings:
            raise EmptyStage("no rankings to train on; the pair builder left every prompt out")
        from selfalign.training.listwise_run import train

        return train(self.config, job)


class RRHFTrainer(ListwiseTrainer):
    """Worse candidates must not be likelier than better ones; the best one is also learned (losses/listwise.py)."""

    name = "rrhf"
    Config: ClassVar[type[RRHFConfig]] = RRHFConfig


class PROTrainer(ListwiseTrainer):
    """Each candidate is contrasted with all worse ones; the best one is also learned (losses/listwise.py)."""

    name = "pro"
    Config: ClassVar[type[PROConfig]] = PROConfig
