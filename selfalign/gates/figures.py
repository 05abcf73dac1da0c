"""From a measured figure to a decision, and intervals of what is derived from two figures."""

from __future__ import annotations

import math

from selfalign.types import Decision, Evaluation


def missing(figure: str, why: str) -> Decision:
    """There is nothing to decide on."""
    return Decision(figure, "not_applicable", why)


def decided(
    figure: Evaluation, *, fails: bool, threshold: float, reason: str, remedy: str, name: str | None = None
) -> Decision:
    """A decision on a figure that has a value."""
    return Decision(
        name or figure.metric, "fail" if fails else "pass", reason, figure.value, figure.low, figure.high, figure.n,
        threshold, remedy,
    )  # fmt: skip


def difference(now: Evaluation, before: Evaluation) -> tuple[float, float | None, float | None]:
    """now - before with the interval of Newcombe (Statistics in Medicine 17, 873, 1998, method 10).

    It takes the two for independent; answers to the same prompts are not, so that it is wider than it need be.
    """
    assert now.value is not None and before.value is not None
    gap = now.value - before.value
    if now.low is None or now.high is None or before.low is None or before.high is None:
        return gap, None, None
    low = math.hypot(now.value - now.low, before.high - before.value)
    high = math.hypot(now.high - now.value, before.value - before.low)
    return gap, gap - low, gap + high


def ratio(now: Evaluation, before: Evaluation) -> tuple[float, float | None, float | None]:
    """now / before of two positive means, with an interval from those of the logarithms, taken for independent."""
    assert now.value is not None and before.value is not None
    quotient = now.value / before.value
    if now.low is None or now.high is None or before.low is None or before.high is None:
        return quotient, None, None
    if now.low <= 0 or before.low <= 0:
        return quotient, None, None
    low = math.hypot(math.log(now.value / now.low), math.log(before.high / before.value))
    high = math.hypot(math.log(now.high / now.value), math.log(before.value / before.low))
    return quotient, quotient * math.exp(-low), quotient * math.exp(high)
