"""From logits to tokens: every row has its own uniform number, so no row depends on its neighbours.

A token is drawn by inverse CDF. Without filters the CDF runs over the vocabulary in id order; with
top-k or top-p it runs over the kept tokens in canonical order: probability descending, id ascending
on ties. Filters apply in the order temperature, top-k, top-p (as Hugging Face and vLLM do); a token is
kept by top-p while the mass before it is below top_p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from selfalign.types import SamplingParams

#: Tokens looked at before a row is sorted whole; the nucleus of a peaked distribution is far smaller.
_CANDIDATES = 256


def uniform_numbers(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """Float64 [len(seeds), steps] in [0, 1): row i is a Philox stream keyed by ``seeds[i]`` alone."""
    streams = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return torch.from_numpy(np.stack(streams))


def choose_tokens(
    logits: torch.Tensor, uniform: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (int64 [rows]) and their log-probabilities (float64 [rows], nats).

    Log-probabilities are those of the untempered, unfiltered distribution.

    Args:
        logits: [rows, vocabulary], any float type; computed in float32, sums in float64.
        uniform: float64 [rows] in [0, 1); unused where ``params.temperature`` is 0 (greedy).
    """
    logits = logits.float()
    if params.temperature == 0:
        tokens = logits.argmax(dim=-1)
    elif params.top_p >= 1 and params.top_k == 0:
        tokens = _draw_unfiltered(logits, uniform, params.temperature)
    else:
        tokens = _draw_filtered(logits, uniform, params)
    return tokens, token_log_probs(logits, tokens)


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Float64 [...]: log-softmax (in float32) of ``logits`` [..., vocabulary] at ``tokens`` [...]."""
    # log_softmax is one pass over the vocabulary; logsumexp is four.
    return logits.float().log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).double()


def _draw_unfiltered(logits: torch.Tensor, uniform: torch.Tensor, temperature: float) -> torch.Tensor:
    peak = logits.amax(dim=-1, keepdim=True)
    weights = ((logits - peak) / temperature).exp_()
    return _inverse_cdf(weights.cumsum(dim=-1, dtype=torch.float64), uniform)


def _draw_filtered(logits: torch.Tensor, uniform: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    vocabulary = logits.shape[-1]
    peak = logits.amax(dim=-1, keepdim=True)
    width = min(vocabulary, max(_CANDIDATES, params.top_k + 1))
    values, ids = _canonical(*logits.topk(width, dim=-1, sorted=False))
    total = _mass(logits, params.temperature) if params.top_k == 0 else None
    tokens, last_kept = _draw_sorted(values, ids, peak, total, uniform, params)
    if width < vocabulary:
        # Where the kept set reaches the smallest value seen, tokens beyond (or tied with it) may belong to it too.
        unsure = (last_kept <= values[:, -1]).nonzero().squeeze(-1)
        if len(unsure):
            whole = logits[unsure]
            values, ids = whole.sort(dim=-1, descending=True, stable=True)
            total = total[unsure] if total is not None else None
            tokens[unsure], _ = _draw_sorted(values, ids, peak[unsure], total, uniform[unsure], params)
    return tokens


def _canonical(values: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Order a row's candidates by value descending, id ascending on ties."""
    ids, by_id = ids.sort(dim=-1)
    values, by_value = values.gather(-1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, by_value)


def _mass(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Float64 [rows, 1]: sum of the tempered weights exp((logit - peak) / T)."""
    # The peak's weight is 1, so the mass is 1 / its probability; softmax is one pass over the vocabulary.
    return 1 / (logits / temperature).softmax(dim=-1).amax(dim=-1, keepdim=True).double()


def _draw_sorted(
    values: torch.Tensor,
    ids: torch.Tensor,
    peak: torch.Tensor,
    total: torch.Tensor | None,
    uniform: torch.Tensor,
    params: SamplingParams,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens drawn from canonically ordered candidates, and the value of the last kept candidate of each row.

    ``total`` is the mass top_p is a share of; None: that of the top-k candidates.
    """
    weights = ((values - peak) / params.temperature).double().exp_()
    if params.top_k:
        weights[:, params.top_k :] = 0
    cumulative = weights.cumsum(dim=-1)
    if total is None:
        total = cumulative[:, -1:]
    kept = (cumulative - weights) < params.top_p * total
    if params.top_k:
        kept[:, params.top_k :] = False
    # At least one, also where logits are NaN: the caller sees that in the log-probability.
    n_kept = kept.sum(dim=-1, keepdim=True).clamp_(min=1)
    mass = cumulative.gather(-1, n_kept - 1)
    position = _inverse_cdf(torch.minimum(cumulative, mass), uniform).unsqueeze(-1)
    return ids.gather(-1, position).squeeze(-1), values.gather(-1, n_kept - 1).squeeze(-1)


def _inverse_cdf(cumulative: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Int64 [rows]: first position whose cumulative mass exceeds ``uniform`` x the row's total."""
    total = cumulative[:, -1:]
    # Rounding may lift u x total to the total itself, beyond every position.
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=cumulative.shape[-1] - 1)
