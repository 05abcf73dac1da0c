"""Losses as pure functions of log-probabilities; the trainers that use them are tested against TRL's own."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F


def dpo_losses(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any, beta: float) -> Any:
    """-log sigmoid(beta * h) of each pair, h = (chosen - ref_chosen) - (rejected - ref_rejected).

    Arguments and result are [pairs]; log-probabilities are summed over each completion
    (arXiv 2305.18290, eq. 7).
    """
    return -F.logsigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def weighted_nll(log_probs: Any, weights: Any, n_tokens: Any) -> Any:
    """Mean over tokens of weight * -log p; ``log_probs`` [rows] are sums, ``weights`` [rows]."""
    return -(weights * log_probs).sum() / n_tokens
