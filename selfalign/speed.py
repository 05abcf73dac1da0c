"""How fast this machine computes, measured in about a second. Imports torch inside its functions.

The fastest of several trials counts: what else the machine is doing at the moment does not last.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Weights of the trial step: more than a processor's caches hold.
_TRIAL_WEIGHTS = 16_000_000


def matrix_rate(device: str, dtype: str) -> float:
    """FLOP/s of matrix products of ``dtype`` ("float32", "bfloat16", ...) on ``device`` ("cpu", "cuda", ...)."""
    import torch

    size = 1024 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    return 2 * size**3 / _fastest(lambda: left @ right, device, trials=20)


def optimizer_rate(device: str) -> float:
    """Float32 weights a second that a step of training changes: gradients clipped, then AdamW."""
    import torch

    weights = torch.nn.Parameter(torch.zeros(_TRIAL_WEIGHTS, device=device))
    weights.grad = torch.ones_like(weights)
    optimizer = torch.optim.AdamW([weights])

    def step() -> None:
        torch.nn.utils.clip_grad_norm_([weights], 1.0)
        optimizer.step()

    return _TRIAL_WEIGHTS / _fastest(step, device, trials=3)


def _fastest(trial: Callable[[], object], device: str, trials: int) -> float:
    """Seconds; after one trial more, which pays for what is done only once."""
    import torch

    seconds = []
    for _ in range(trials + 1):
        started = time.perf_counter()
        trial()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
