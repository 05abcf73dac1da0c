"""Win rates of one model over another from preferences, raw and with the length of answers held equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfalign.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    percentile_interval,
    resampled_counts,
    wilson,
)

#: Penalties of the fit: next to nothing at 50 prompts, and what keeps it finite where one side wins everything.
_RIDGE_MODEL = 0.01
_RIDGE_LENGTH = 1.0
_STEPS = 50
_LARGEST_STEP = 2.0


@dataclass(frozen=True)
class Preference:
    """How two models' answers to a prompt compared: 1 is the first model's win, 0.5 a tie; lengths in tokens."""

    prompt_id: str
    value: float
    length: float
    other_length: float


@dataclass(frozen=True)
class LengthControlled:
    """``model`` and ``length`` are the two coefficients; None where there is nothing to fit."""

    rate: Interval
    model: float | None
    length: float | None
    #: Mean difference of lengths in its standard deviations: far from 0 the figure is an extrapolation.
    mean_difference: float | None


def win_rate(preferences: Sequence[Preference], seed: int) -> Interval:
    """Mean preference, a tie counting half; ``n`` counts prompts. Interval: :func:`bootstrap_interval`."""
    by_prompt: dict[str, list[float]] = {}
    for preference in preferences:
        by_prompt.setdefault(preference.prompt_id, []).append(preference.value)
    return bootstrap_interval([sum(values) / len(values) for values in by_prompt.values()], seed)


def length_controlled_win_rate(preferences: Sequence[Preference], seed: int, resamples: int = 1000) -> LengthControlled:
    """The win rate that a logistic regression predicts for answers of equal length (arXiv 2404.04475, section 3).

    logit P(win) = theta + phi * tanh(d / sd(d)) with d the difference of lengths; the figure is
    sigmoid(theta). Simpler than the paper: no term for the difficulty of each instruction, which takes
    preferences of many models to fit, tokens for characters, and a fixed ridge penalty (0.01 on theta, 1 on
    phi) in place of a cross-validated one. Ties are targets of 0.5. With several samples, each prompt
    weighs the same. Interval: percentiles over fits to resampled prompts.

    There is no figure where all differences are one number other than 0, as then length and model cannot be
    told apart.
    """
    prompts = sorted({preference.prompt_id for preference in preferences})
    difference = np.array([p.length - p.other_length for p in preferences], dtype=np.float64)
    spread = float(difference.std()) if len(prompts) > 1 else 0.0
    if not prompts or (spread == 0 and difference.any()):
        return LengthControlled(Interval(None, None, None, len(prompts)), None, None, None)
    scaled = np.tanh(difference / spread) if spread else np.zeros_like(difference)
    values = np.array([p.value for p in preferences], dtype=np.float64)
    index = {prompt_id: number for number, prompt_id in enumerate(prompts)}
    group = np.array([index[p.prompt_id] for p in preferences])
    share = 1.0 / np.bincount(group)[group]
    theta, phi = _fit(scaled, values, share[None, :])
    thetas = [
        _fit(scaled, values, counts[:, group] * share)[0]
        for counts in resampled_counts(len(prompts), resamples, seed)
    ]  # fmt: skip
    rate = percentile_interval(float(_sigmoid(theta)[0]), _sigmoid(np.concatenate(thetas)), len(prompts))
    if np.ptp(values) == 0 and values[0] in (0.0, 1.0):  # refits of the same outcome know no doubt
        certain = wilson(round(float(values[0])) * len(prompts), len(prompts))
        rate = Interval(rate.value, certain.low, certain.high, rate.n)
    return LengthControlled(
        rate, float(theta[0]), float(phi[0]), float(difference.mean() / spread) if spread else 0.0
    )  # fmt: skip


def _fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge-penalised maximum likelihood by Newton's method, for every row of ``weights`` [fits, n] at once."""
    theta, phi = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        p = _sigmoid(theta[:, None] + phi[:, None] * x)
        residual, curvature = weights * (y - p), weights * p * (1 - p)
        g0, g1 = residual.sum(1) - _RIDGE_MODEL * theta, residual @ x - _RIDGE_LENGTH * phi
        h00, h01 = curvature.sum(1) + _RIDGE_MODEL, curvature @ x
        h11 = curvature @ (x * x) + _RIDGE_LENGTH
        determinant = h00 * h11 - h01 * h01
        # A whole Newton step may overshoot where nearly all preferences are one way.
        step0 = np.clip((h11 * g0 - h01 * g1) / determinant, -_LARGEST_STEP, _LARGEST_STEP)
        step1 = np.clip((h00 * g1 - h01 * g0) / determinant, -_LARGEST_STEP, _LARGEST_STEP)
        theta, phi = theta + step0, phi + step1
        if max(np.abs(step0).max(), np.abs(step1).max()) < 1e-9:
            break
    return theta, phi


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # tanh does not overflow.
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result
