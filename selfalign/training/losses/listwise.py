"""Losses over the scored completions of one prompt: RRHF and PRO.

Every function takes one list: ``values`` [n] are the policy's values of the completions, with gradient, and
``scores`` [n] the judge's. Their order does not matter. Candidates with equal scores are never held against each
other, so a list of equal scores has no ranking loss at all (the trainers refuse such lists).
"""

from __future__ import annotations

from typing import Any

import torch

from selfalign.training.dataset import TIED


def length_normalised(log_probs: Any, n_tokens: Any, length_penalty: float = 1.0) -> Any:
    """p = log_probs / n_tokens ** length_penalty, each [n]; 1 is the token mean (RRHF, arXiv 2304.05302, eq. 1)."""
    return log_probs / n_tokens**length_penalty


def rrhf_ranking_loss(values: Any, scores: Any) -> Any:
    """sum over r_i < r_j of max(0, p_i - p_j), a scalar (arXiv 2304.05302, eq. 2).

    0 where the policy orders all candidates as the scores do, by however little.
    """
    wrong = (values[:, None] - values[None, :]).clamp(min=0)  # [i, j]
    worse = scores[None, :] - scores[:, None] > TIED
    return torch.where(worse, wrong, 0.0).sum()


def pro_ranking_loss(values: Any, scores: Any, temperatures: bool = True) -> Any:
    """sum over k of -log [e^(T_k p_k) / (e^(T_k p_k) + sum over r_i < r_k of e^((r_k - r_i) p_i))], a scalar.

    T_k = max over r_i < r_k of (r_k - r_i): how far the scores are apart is how hard the policy is pushed (arXiv
    2306.17492, eq. 7 to 9, where the temperature divides: 1 / (r_k - r_i)). ``temperatures=False`` is the plain form,
    all exponents times 1 (eq. 4).

    The published loss runs over ranks, ties included: a tied candidate then adds the constant e^0 to the
    denominator, and k whose rest is tied with it has T_k = 0, a constant log(1 + n) without gradient. Here tied
    candidates are left out of k's rest, and a k without any rest gives 0; without ties the two are the same.
    """
    gaps = scores[:, None] - scores[None, :]  # [k, i]
    worse = gaps > TIED
    gaps = gaps.to(values.dtype)
    if not temperatures:
        gaps = torch.ones_like(gaps)
    temperature = torch.where(worse, gaps, 0.0).amax(dim=1)
    own = (temperature * values)[:, None]
    rest = torch.where(worse, gaps * values[None, :], -torch.inf)
    losses = torch.logsumexp(torch.cat([own, rest], dim=1), dim=1) - own[:, 0]
    return torch.where(worse.any(dim=1), losses, 0.0).sum()


def best_nll(log_probs: Any, n_tokens: Any, scores: Any) -> Any:
    """Mean -log p a token of the best completion, a scalar: the SFT term of both methods.

    ``log_probs`` [n] are sums, ``n_tokens`` [n] counts; of equally good ones the first counts. RRHF's code divides by
    the padded length, and PRO's by nothing; a token mean depends neither on the batch nor on the answer's length.
    """
    best = int(scores.argmax())
    return -log_probs[best] / n_tokens[best]


def rrhf_loss(
    log_probs: Any, n_tokens: Any, scores: Any, ranking_weight: float = 1.0, length_penalty: float = 1.0
) -> Any:
    """``ranking_weight`` times the ranking loss, plus the SFT term, a scalar (arXiv 2304.05302, eq. 4)."""
    values = length_normalised(log_probs, n_tokens, length_penalty)
    return ranking_weight * rrhf_ranking_loss(values, scores) + best_nll(log_probs, n_tokens, scores)


def pro_loss(log_probs: Any, n_tokens: Any, scores: Any, sft_weight: float = 2.0, temperatures: bool = True) -> Any:
    """The ranking loss of token means, plus ``sft_weight`` (n - 1)^2 times the SFT term, a scalar (arXiv 2306.17492).

    The SFT term grows with the list as the ranking loss does. PRO's script has weight 0.05 on the *sum* of -log p: as
    much as 2 on the token mean of an answer of 40 tokens.
    """
    ranking = pro_ranking_loss(length_normalised(log_probs, n_tokens), scores, temperatures)
    return ranking + sft_weight * (len(scores) - 1) ** 2 * best_nll(log_probs, n_tokens, scores)
