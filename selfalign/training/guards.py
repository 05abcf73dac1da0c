"""Step-1 guards (guarantee 5): training starts at the expected loss and at the parent's log-probabilities.

Both are needed. A policy that is not the parent can still start at loss ln 2 where the reference
is derived from the same wrong weights (a PiSSA adapter does so); a wrong reference leaves the
policy's log-probabilities right and the loss wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfalign.errors import GuardFailed


@dataclass(frozen=True)
class Tolerance:
    """How far arithmetic alone may carry a number; batches padded differently are not summed alike."""

    loss: float
    log_prob: float
    relative: float


FLOAT32 = Tolerance(loss=1e-4, log_prob=1e-3, relative=1e-5)
BFLOAT16 = Tolerance(loss=5e-2, log_prob=0.5, relative=2e-2)


def check_loss(observed: float, expected: float, tolerance: Tolerance, scale: float = 1.0) -> None:
    """Guard 1. ``scale`` widens the tolerance, for a loss that magnifies log-probabilities' noise."""
    if not abs(observed - expected) <= tolerance.loss * max(1.0, scale):
        raise GuardFailed(
            f"training would start at loss {observed:.6f}, expected {expected:.6f}: the reference or the "
            "policy is not the checkpoint this round started from"
        )


def check_log_probs(policy: Sequence[float], parent: Sequence[float], tolerance: Tolerance) -> float:
    """Guard 2: the largest gap in nats between the policy's log-probabilities and its parent's."""
    worst = 0.0
    for ours, theirs in zip(policy, parent, strict=True):
        gap = abs(ours - theirs)
        if not gap <= max(tolerance.log_prob, tolerance.relative * abs(theirs)):
            raise GuardFailed(
                f"the policy gives a completion log-probability {ours:.4f}, its parent checkpoint {theirs:.4f}: "
                "training would not start from the parent's weights"
            )
        worst = max(worst, gap)
    return worst


def check_changed(before: str, after: str, steps: int, learning_rate: float) -> None:
    """Training that ran must have changed the weights."""
    if before == after and steps > 0 and learning_rate > 0:
        raise GuardFailed(
            f"training changed nothing: weights {before[:12]} before and {after[:12]} after {steps} steps at "
            f"learning rate {learning_rate:g}; raise train.learning_rate or train float32 weights"
        )
