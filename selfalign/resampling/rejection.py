"""Statistical rejection sampling (RSO, arXiv 2309.06657): a prompt's candidates as if the optimal policy had made them.

The candidates are samples of the policy; wanted are samples of pi_r, proportional to pi(y) exp(r(y) / beta), the
policy that a KL-regularised training on reward r at strength beta would end with (section 3.1). Over the candidates
at hand that is softmax(r / beta). Pure functions over one prompt's rewards; what they return are positions in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Proposals drawn at once.
_BLOCK = 256


def acceptance(rewards: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """exp((r - max r) / beta) in [0, 1], shape [k] as ``rewards``: the chance that a proposed candidate is accepted.

    Proportional to softmax(r / beta). ``beta`` > 0 is in units of the reward; the best candidates have exactly 1.

    Raises:
        ValueError: a reward is NaN or infinite; a sampler would wait for its acceptance for ever.
    """
    if not np.isfinite(rewards).all():
        raise ValueError("rewards must be finite numbers")
    with np.errstate(over="ignore"):  # a tiny beta: a distance of minus infinity is a chance of 0
        chances: NDArray[np.float64] = np.exp((rewards - rewards.max()) / beta)
    return chances


def in_passes(rewards: NDArray[np.float64], n: int, beta: float, stream: np.random.Generator) -> list[int]:
    """Algorithm 1 of the paper: positions of min(n, k) different candidates, in order of acceptance.

    Pass after pass over those that are left, in the order given, each is accepted with its :func:`acceptance` among
    the ones that the pass began with, until there are n. So beta -> 0 takes the best n, and beta -> infinity the first
    n; n = k takes all. What is accepted depends on the order: for r = [0, beta ln 2] and n = 1 the second is accepted
    with probability 0.5, the other way round with 1 (exact would be 2/3). The paper's code visits in no stated order;
    shuffle first, and the bias against what happens to come last is gone on average (0.75 here).
    """
    left = np.arange(len(rewards))
    accepted: list[int] = []
    while len(left) and len(accepted) < n:
        taken = stream.random(len(left)) < acceptance(rewards[left], beta)
        accepted += left[taken].tolist()
        left = left[~taken]
    return accepted[:n]


def iid(rewards: NDArray[np.float64], n: int, beta: float, stream: np.random.Generator) -> list[int]:
    """``n`` independent draws from softmax(rewards / beta), in order; the same position may come several times.

    Textbook rejection sampling: a candidate is proposed uniformly and kept with its :func:`acceptance`. At least one
    in k proposals is accepted, however small beta is.
    """
    chance = acceptance(rewards, beta)
    drawn: list[int] = []
    while len(drawn) < n:
        which, u = stream.random((2, _BLOCK))
        proposed = (which * len(rewards)).astype(np.intp)
        drawn += proposed[u < chance[proposed]].tolist()
    return drawn[:n]


def effective_size(weights: NDArray[np.float64]) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): how many equally weighted candidates these are worth, between 1 and k.

    0 where no weight is above 0.
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
