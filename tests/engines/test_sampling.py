from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from selfalign.engines import sampling
from selfalign.engines.sampling import choose_tokens, token_log_probs, uniform_numbers
from selfalign.types import SamplingParams

FILTERS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.5),
    SamplingParams(temperature=1.7, top_p=0.8),
    SamplingParams(temperature=0.7, top_k=5),
    SamplingParams(temperature=1.3, top_p=0.6, top_k=7),
    SamplingParams(temperature=1.0, top_p=0.01),
]


def naive_distribution(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Float64 probabilities of one row, by the definition: sort, cut by k, renormalise, cut by p, renormalise."""
    tempered = logits.astype(np.float64) / params.temperature
    probs = np.exp(tempered - tempered.max())
    probs /= probs.sum()
    order = np.lexsort((np.arange(len(probs)), -logits))
    if params.top_k:
        probs[order[params.top_k :]] = 0
        probs /= probs.sum()
    if params.top_p < 1:
        before = np.cumsum(probs[order]) - probs[order]
        probs[order[before >= params.top_p]] = 0
        probs /= probs.sum()
    return probs


@pytest.mark.parametrize("params", FILTERS, ids=str)
@pytest.mark.parametrize(
    "candidates", [(4,), (2, 9), (256,)], ids=["falls back to a full sort", "in steps", "whole at once"]
)
def test_frequencies_match_the_filtered_softmax(
    params: SamplingParams, candidates: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_CANDIDATES", candidates)
    logits = np.random.default_rng(3).normal(size=24).astype(np.float32) * 1.5
    n = 20_000
    uniform = uniform_numbers([7], n)[0]
    tokens, _ = choose_tokens(torch.from_numpy(logits).expand(n, -1), uniform, params)
    counts = np.bincount(tokens.numpy(), minlength=24)
    probs = naive_distribution(logits, params)
    assert counts[probs == 0].sum() == 0, "a filtered token was drawn"
    kept = probs > 0
    if kept.sum() > 1:
        assert chisquare(counts[kept], probs[kept] * n).pvalue > 1e-3


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_a_draw_is_the_naive_inverse_cdf(params: SamplingParams) -> None:
    """On flat, peaked and tied rows of a vocabulary larger than the candidates looked at first."""
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.normal(size=(20, 2000)), rng.normal(size=(20, 2000)) * 8, rng.integers(0, 3, size=(20, 2000))]
    ).astype(np.float32)
    uniform = torch.from_numpy(rng.random(len(rows)))
    tokens, _ = choose_tokens(torch.from_numpy(rows), uniform, params)
    for row, u, token in zip(rows, uniform.tolist(), tokens.tolist(), strict=True):
        probs = naive_distribution(row, params)
        filtered = params.top_k or params.top_p < 1
        order = np.lexsort((np.arange(len(row)), -row)) if filtered else np.arange(len(row))
        cumulative = np.cumsum(probs[order])
        place = int(np.flatnonzero(order == token)[0])
        below = cumulative[place - 1] if place else 0.0
        assert below - 1e-6 <= u <= cumulative[place] + 1e-6
        assert probs[token] > 0


def test_greedy_and_log_probabilities_are_untempered() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    expected = torch.log_softmax(logits.double(), dim=-1)
    tokens, log_probs = choose_tokens(logits, torch.zeros(2).double(), SamplingParams(temperature=0))
    assert tokens.tolist() == [1, 0]
    torch.testing.assert_close(log_probs, expected[[0, 1], [1, 0]], atol=1e-6, rtol=0)
    hot, log_probs = choose_tokens(logits, torch.full((2,), 0.99).double(), SamplingParams(temperature=3, top_k=2))
    torch.testing.assert_close(log_probs, token_log_probs(logits, hot))


def test_the_largest_uniform_number_stays_inside() -> None:
    logits = torch.tensor([[0.0, 1.0, -200.0]])
    almost_one = torch.tensor([np.nextafter(1.0, 0.0)])
    for params in (SamplingParams(), SamplingParams(top_p=0.9999), SamplingParams(top_k=2)):
        assert choose_tokens(logits, almost_one, params)[0].item() in (0, 1)


def test_streams_depend_on_their_seed_alone() -> None:
    assert torch.equal(uniform_numbers([5, 2**63 - 1], 8)[1], uniform_numbers([2**63 - 1], 8)[0])
    assert torch.equal(uniform_numbers([5], 8)[0, :3], uniform_numbers([5], 3)[0])
    assert not torch.equal(uniform_numbers([5], 8), uniform_numbers([6], 8))
