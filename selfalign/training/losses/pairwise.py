"""Pairwise losses: pure functions of the log-probabilities of a batch of pairs.

Every loss takes a :class:`PairBatch` and its own hyperparameters, by the names of pairwise_settings.py, and returns
one value a pair. In the docstrings lp is a completion's summed log-probability, m = lp / length, w the chosen and l
the rejected side, a = lp_w - ref_w, b = lp_l - ref_l, h = a - b, s the sigmoid.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairBatch:
    """What the losses read of n pairs; every field is [n], and None where no loss needs it.

    Log-probabilities are in nats, summed over the completion's tokens, whose numbers are the lengths.

    Raises:
        ValueError: fields of different shapes, or an empty completion.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    #: By how much the judge prefers the chosen side: ``pairs.margin``.
    margin: Tensor | None = None
    #: Win rates in [0, 1].
    chosen_score: Tensor | None = None
    rejected_score: Tensor | None = None
    #: How likely each label is wrong, in [0, 0.5]: a ``label_smoothing`` of "pair".
    smoothing: Tensor | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value.shape != self.chosen.shape:
                raise ValueError(f"{field.name} has shape {tuple(value.shape)}, chosen {tuple(self.chosen.shape)}")
        shortest = torch.minimum(self.chosen_length, self.rejected_length)
        if len(shortest) and shortest.min() < 1:
            raise ValueError(f"pair {int(shortest.argmin())} of the batch has an empty completion")

    def column(self, name: str) -> Tensor:
        """The field ``name``.

        Raises:
            ValueError: the batch has none.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"the loss reads '{name}', which these pairs do not have")
        return value

    def ratios(self) -> tuple[Tensor, Tensor]:
        """(a, b), the log-ratios to the reference."""
        return self.chosen - self.column("ref_chosen"), self.rejected - self.column("ref_rejected")

    def means(self) -> tuple[Tensor, Tensor]:
        """(m_w, m_l), mean log-probability a token."""
        return self.chosen / self.chosen_length, self.rejected / self.rejected_length


# -- log-sigmoid of a reward difference ------------------------------------------------------------


def dpo(batch: PairBatch, *, beta: float, margin_scale: float = 0.0) -> Tensor:
    """-log s(beta h - margin): DPO (arXiv 2305.18290, eq. 7).

    The margin stands inside the log-sigmoid, as in Llama 2 (arXiv 2307.09288, eq. 2) and TRL's RewardTrainer; equation
    6 of Secrets of RLHF II (arXiv 2401.06080) as printed has it outside, where it has no gradient.
    """
    return _logistic(_preference(batch, beta, margin_scale))


def cdpo(batch: PairBatch, *, beta: float, label_smoothing: float | Tensor, margin_scale: float = 0.0) -> Tensor:
    """-(1 - e) log s(z) - e log s(-z), z = beta h - margin: conservative DPO, for labels that are wrong with chance e.

    Mitchell, "A note on DPO with noisy preferences and relationship to IPO" (2023). With one e a pair it is the
    label smoothing of Secrets of RLHF II (arXiv 2401.06080, section 2.3).
    """
    return _logistic(_preference(batch, beta, margin_scale), label_smoothing)


def robust_dpo(batch: PairBatch, *, beta: float, label_smoothing: float, margin_scale: float = 0.0) -> Tensor:
    """(-(1 - e) log s(z) + e log s(-z)) / (1 - 2 e), z = beta h - margin, e < 0.5: an unbiased estimate of DPO's loss.

    Provably robust DPO (arXiv 2403.00409, section 3.1). Its gradient at h = 0 is DPO's, whatever e; it can be negative.
    """
    z = _preference(batch, beta, margin_scale)
    return (-(1 - label_smoothing) * F.logsigmoid(z) + label_smoothing * F.logsigmoid(-z)) / (1 - 2 * label_smoothing)


def sigmoid_norm(batch: PairBatch, *, beta: float, margin_scale: float = 0.0) -> Tensor:
    """-log s(beta (a / length_w - b / length_l) - margin): length-normalised DPO (Tulu 3, arXiv 2411.15124).

    TRL's ``sigmoid_norm``. Not RSO's loss of that name, which is :func:`dpo` with beta 0.05.
    """
    a, b = batch.ratios()
    return _logistic(_spaced(beta * (a / batch.chosen_length - b / batch.rejected_length), batch, margin_scale))


def odpo(batch: PairBatch, *, beta: float, odpo_alpha: float) -> Tensor:
    """-log s(beta h - alpha log(margin)): DPO with an offset (arXiv 2402.10571, with f = log).

    The offset is negative below a margin of 1, and undefined at 0: scale the scores, drop the ties.
    """
    return _logistic(_preference(batch, beta, 0.0) - odpo_alpha * torch.log(batch.column("margin")))


def dpop(batch: PairBatch, *, beta: float, dpop_lambda: float) -> Tensor:
    """-log s(beta (h - lambda max(0, -a))): DPO-Positive, which punishes a falling chosen answer (arXiv 2402.13228)."""
    a, b = batch.ratios()
    return _logistic(beta * (a - b - dpop_lambda * F.relu(-a)))


def rpo(batch: PairBatch, *, beta: float, rpo_alpha: float, margin_scale: float = 0.0) -> Tensor:
    """-log s(beta h - margin) - alpha m_w: DPO + NLL of iterative reasoning preference optimisation (arXiv 2404.19733, eq. 1)."""
    return dpo(batch, beta=beta, margin_scale=margin_scale) - rpo_alpha * batch.means()[0]


def simpo(
    batch: PairBatch,
    *,
    beta: float,
    simpo_gamma: float,
    label_smoothing: float | Tensor = 0.0,
    margin_scale: float = 0.0,
) -> Tensor:
    """-log s(beta (m_w - m_l) - gamma - margin): SimPO (arXiv 2405.14734, eq. 6); smoothing as in its code and TRL's."""
    chosen, rejected = batch.means()
    return _logistic(_spaced(beta * (chosen - rejected) - simpo_gamma, batch, margin_scale), label_smoothing)


def cpo(
    batch: PairBatch, *, beta: float, cpo_alpha: float, label_smoothing: float | Tensor = 0.0, margin_scale: float = 0.0
) -> Tensor:
    """-log s(beta (lp_w - lp_l) - margin) + alpha NLL_w: CPO (arXiv 2401.08417, eq. 3).

    The NLL is the mean over the batch's chosen tokens, as in the authors' code and TRL; the paper's is a sum.
    """
    z = _spaced(beta * (batch.chosen - batch.rejected), batch, margin_scale)
    return _logistic(z, label_smoothing) + cpo_alpha * sft(batch)


def orpo(batch: PairBatch, *, orpo_lambda: float) -> Tensor:
    """NLL_w - lambda log s(odds_w - odds_l), odds = m - log(1 - e^m): ORPO (arXiv 2403.07691, eq. 6 and 7).

    The NLL is over completions; in the authors' code and TRL it is over prompts as well.
    """
    chosen, rejected = (_log_odds(mean) for mean in batch.means())
    return sft(batch) + orpo_lambda * _logistic(chosen - rejected)


# -- hinges ----------------------------------------------------------------------------------------


def hinge_norm(batch: PairBatch, *, beta: float) -> Tensor:
    """max(0, 1 - beta h): RSO's hinge-norm (arXiv 2309.06657), TRL's ``hinge``; beta is RSO's gamma."""
    a, b = batch.ratios()
    return F.relu(1 - beta * (a - b))


def hinge(batch: PairBatch, *, beta: float) -> Tensor:
    """max(0, 1 - beta (lp_w - lp_l)): RSO's hinge (arXiv 2309.06657), without reference; beta is RSO's gamma."""
    return F.relu(1 - beta * (batch.chosen - batch.rejected))


def slic(batch: PairBatch, *, slic_delta: float, slic_lambda: float) -> Tensor:
    """max(0, delta - lp_w + lp_l) - lambda lp_ref: SLiC-HF (arXiv 2305.10425, section 2).

    The target of the regularisation is the chosen answer: the best candidate, one of the paper's choices.
    """
    return F.relu(slic_delta - batch.chosen + batch.rejected) - slic_lambda * batch.chosen


# -- squared distances and others ------------------------------------------------------------------


def ipo(batch: PairBatch, *, beta: float, length_average: bool) -> Tensor:
    """(h - 1 / (2 beta))^2: IPO (arXiv 2310.12036, eq. 17); beta is the paper's tau.

    ``length_average`` divides a and b by their lengths first, as TRL does after asking the authors. The two forms need
    very different betas.
    """
    a, b = batch.ratios()
    h = a / batch.chosen_length - b / batch.rejected_length if length_average else a - b
    return (h - 1 / (2 * beta)) ** 2


def sppo(batch: PairBatch, *, beta: float, hard: bool) -> Tensor:
    """((a - (P_w - 1/2) / beta)^2 + (b - (P_l - 1/2) / beta)^2) / 2: SPPO (arXiv 2405.00675, eq. 4.7), beta = 1 / eta.

    P is a side's win rate against the policy's own answers: its score, or with ``hard`` 1 for chosen and 0 for rejected
    (TRL's ``sppo_hard``, which is twice this).
    """
    a, b = batch.ratios()
    wins = torch.ones_like(a) if hard else batch.column("chosen_score")
    losses = torch.zeros_like(b) if hard else batch.column("rejected_score")
    return ((a - (wins - 0.5) / beta) ** 2 + (b - (losses - 0.5) / beta) ** 2) / 2


def apo_zero(batch: PairBatch, *, beta: float) -> Tensor:
    """1 - s(beta a) + s(beta b): chosen up, rejected down (arXiv 2408.06266, eq. 7), for chosen better than the policy's own."""
    a, b = batch.ratios()
    return torch.sigmoid(-beta * a) + torch.sigmoid(beta * b)


def apo_down(batch: PairBatch, *, beta: float) -> Tensor:
    """s(beta a) + 1 - s(beta h): both down, rejected more (arXiv 2408.06266, eq. 8), for chosen worse than the policy's own."""
    a, b = batch.ratios()
    return torch.sigmoid(beta * a) + torch.sigmoid(-beta * (a - b))


def sft(batch: PairBatch) -> Tensor:
    """-lp_w n / (chosen tokens of the batch): its mean over pairs is the NLL a chosen token, as TRL's loss ``sft``."""
    return -batch.chosen * (len(batch.chosen) / batch.chosen_length.sum())


def weighted_nll(log_probs: Tensor, weights: Tensor, n_tokens: int | Tensor) -> Tensor:
    """Mean over tokens of weight * -log p; ``log_probs`` [rows] are sums, ``weights`` [rows]."""
    return -(weights * log_probs).sum() / n_tokens


# -- shared ----------------------------------------------------------------------------------------


def _preference(batch: PairBatch, beta: float, margin_scale: float) -> Tensor:
    a, b = batch.ratios()
    return _spaced(beta * (a - b), batch, margin_scale)


def _spaced(difference: Tensor, batch: PairBatch, margin_scale: float) -> Tensor:
    """The reward difference, less what it must exceed."""
    return difference - margin_scale * batch.column("margin") if margin_scale else difference


def _logistic(z: Tensor, label_smoothing: float | Tensor = 0.0) -> Tensor:
    return -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)


def _log_odds(mean: Tensor) -> Tensor:
    """m - log(1 - e^m) for m <= 0, exact near 0 and far from it.

    At m = 0, a completion that is certain, the odds are infinite: m is kept a rounding below.
    """
    m = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    near = m > -math.log(2)
    # Both branches are computed, so neither may see what makes its gradient infinite.
    close = torch.log(-torch.expm1(torch.where(near, m, -1.0)))
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, m)))
    return m - torch.where(near, close, far)
