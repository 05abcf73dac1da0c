"""A trainer on pairs with a loss of its own: exp(-beta h), where h is DPO's difference of log-ratios.

It is the exponential member of the family of GPO (arXiv 2402.05749). torch is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from selfalign.training.losses.pairwise_settings import PairLoss
from selfalign.training.pairwise import PairTrainer, ReferenceSettings

if TYPE_CHECKING:
    from torch import Tensor

    from selfalign.training.losses.pairwise import PairBatch


def exponential(pairs: PairBatch, beta: float) -> Tensor:
    """[pairs]; 1 where policy and reference agree."""
    h = (pairs.chosen - pairs.column("ref_chosen")) - (pairs.rejected - pairs.column("ref_rejected"))
    return (-beta * h).exp()


class Exponential(PairLoss):
    id: Literal["acme_exponential"] = "acme_exponential"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")

    def function(self) -> Callable[..., Any]:
        return exponential


class ExponentialTrainer(PairTrainer):
    class Config(Exponential, ReferenceSettings):
        pass
