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

#: Likeliest tokens looked at, in turn, before a row is sorted whole: most nuclei are far smaller.
_CANDIDATES = (256, 4096)
_BLOCK = 256


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
    # First the block, then the token in it: a float64 CDF over the whole vocabulary costs more than the softmax.
    probabilities = (logits / temperature).softmax(dim=-1)
    blocks = torch.nn.functional.pad(probabilities, (0, -logits.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    mass = blocks.sum(dim=-1).double()
    cumulative = mass.cumsum(dim=-1)
    block = _inverse_cdf(cumulative, uniform)
    row = torch.arange(len(logits), device=logits.device)
    before = cumulative[row, block] - mass[row, block]
    # Not below 0 by rounding: that would select a token of probability 0.
    share = ((uniform * cumulative[:, -1] - before) / mass[row, block]).clamp_(min=0)
    inside = blocks[row, block].cumsum(dim=-1, dtype=torch.float64)
    return (block * _BLOCK + _inverse_cdf(inside, share)).clamp_(max=logits.shape[-1] - 1)


def _draw_filtered(logits: torch.Tensor, uniform: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    vocabulary = logits.shape[-1]
    total = _mass(logits, params.temperature) if params.top_k == 0 else None
    tokens = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    rows = torch.arange(len(logits), device=logits.device)
    for candidates in (*_CANDIDATES, vocabulary):
        width = min(vocabulary, max(candidates, params.top_k + 1))
        seen = logits if len(rows) == len(logits) else logits[rows]
        values, ids = _canonical(*seen.topk(width, dim=-1, sorted=False))
        rest = total[rows] if total is not None else None
        drawn, last_kept = _draw_sorted(values, ids, rest, uniform[rows], params)
        tokens[rows] = drawn
        if width == vocabulary:
            break
        # Where the kept set reaches the smallest value seen, tokens beyond (or tied with it) may belong to it too.
        rows = rows[last_kept <= values[:, -1]]
        if len(rows) == 0:
            break
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
    total: torch.Tensor | None,
    uniform: torch.Tensor,
    params: SamplingParams,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens drawn from canonically ordered candidates, and the value of the last kept candidate of each row.

    ``total`` is the mass top_p is a share of; None: that of the top-k candidates.
    """
    weights = ((values - values[:, :1]) / params.temperature).double().exp_()
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
