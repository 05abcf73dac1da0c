"""Losses by name, and sums of them: from settings and a batch to one value a pair."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from selfalign.training.losses.pairwise import PairBatch
from selfalign.training.losses.pairwise_settings import PairLoss


def pair_losses(losses: Sequence[PairLoss], batch: PairBatch) -> Tensor:
    """[pairs]: the sum over ``losses`` of weight * loss.

    Raises:
        ValueError: a loss reads what the batch does not have.
    """
    return sum(loss.weight * _of_pairs(loss, batch) for loss in losses)


def _of_pairs(loss: PairLoss, batch: PairBatch) -> Tensor:
    function: Callable[..., Tensor] = loss.function()
    return function(batch, **_arguments(loss, function, batch))


def _arguments(loss: PairLoss, function: Callable[..., Tensor], batch: PairBatch) -> dict[str, Any]:
    # By name, as a trainer's settings are its main loss's and have many more fields.
    names = list(inspect.signature(function).parameters)[1:]
    values = {name: getattr(loss, name) for name in names}
    if values.get("label_smoothing") == "pair":
        values["label_smoothing"] = batch.column("smoothing")
    return values


def expected_loss(
    losses: Sequence[PairLoss], batch: PairBatch, weights: Sequence[float], noise: float = 0.0
) -> tuple[float, float]:
    """(mean over pairs of weight * loss, its sensitivity) of a batch in float64: what a trainer should find itself.

    The sensitivity is the sum of the absolute derivatives by the policy's log-probabilities: what an error of one nat in
    all of them could change. It is beta for DPO with policy = reference. Some losses have a kink just there (DPOP), so
    it is the largest of here and of ``noise`` nats to either side.
    """
    value, sensitivity = _loss_and_slope(losses, batch, weights)
    for shift in (-noise, noise) if noise else ():
        moved = dataclasses.replace(batch, chosen=batch.chosen + shift, rejected=batch.rejected - shift)
        sensitivity = max(sensitivity, _loss_and_slope(losses, moved, weights)[1])
    return value, sensitivity


def _loss_and_slope(losses: Sequence[PairLoss], batch: PairBatch, weights: Sequence[float]) -> tuple[float, float]:
    chosen, rejected = batch.chosen.detach().requires_grad_(), batch.rejected.detach().requires_grad_()
    of_pairs = pair_losses(losses, dataclasses.replace(batch, chosen=chosen, rejected=rejected))
    value = (torch.tensor(weights, dtype=torch.float64) * of_pairs).mean()
    gradients = torch.autograd.grad(value, (chosen, rejected), allow_unused=True)
    return value.item(), sum(gradient.abs().sum().item() for gradient in gradients if gradient is not None)
