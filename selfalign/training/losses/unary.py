"""KTO's loss: each completion alone, wanted or not (Ethayarajh et al., arXiv 2402.01306)."""

from __future__ import annotations

from typing import Any

import torch


def kl_estimate(log_probs: Any, ref_log_probs: Any) -> Any:
    """z0, the reference point in nats, a scalar without gradient: max(0, mean(log_probs - ref_log_probs)).

    Arguments are [rows]: summed log-probabilities of completions that answer *other* prompts than their row's
    (section 4.1: mismatched pairs of the batch estimate the divergence from the reference, which is never below 0).
    """
    return (log_probs - ref_log_probs).detach().mean().clamp(min=0)


def kto_losses(
    log_probs: Any,
    ref_log_probs: Any,
    labels: Any,
    z0: Any,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Any:
    """lambda_D (1 - sigmoid(beta (a - z0))) of desirable rows, lambda_U (1 - sigmoid(beta (z0 - a))) of the others.

    a = log_probs - ref_log_probs, summed over each completion, in nats (eq. 7 and 8). ``labels`` is a bool tensor,
    true for desirable; it and the result are [rows]. Between 0 and the class's weight; half of it at a = z0 = 0.
    """
    advantage = beta * (log_probs - ref_log_probs - z0)
    # 1 - sigmoid(x) as sigmoid(-x): no digits are lost where the loss is nearly 0.
    losses = torch.sigmoid(torch.where(labels, -advantage, advantage))
    weights = torch.where(labels, desirable_weight, undesirable_weight)
    return weights.to(losses.dtype) * losses
