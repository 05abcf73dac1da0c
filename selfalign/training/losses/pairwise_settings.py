"""Hyperparameters of the pairwise losses, under the names of their papers. No torch: a config is validated without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from selfalign.config import Settings

#: What the pairs must carry for a loss, by name of the field of PairExample and of PairBatch.
Column = Literal["margin", "smoothing", "chosen_score", "rejected_score"]

#: A chance that labels are wrong, or the one recorded for each pair.
Smoothing = Annotated[float, Field(ge=0, lt=0.5)] | Literal["pair"]
_SMOOTHING = "chance that a label is wrong; pair: that of each pair, from pair.strength"


class PairLoss(Settings):
    """One term of a training's loss; a subclass has its function's hyperparameters as fields."""

    id: str
    weight: float = Field(1.0, gt=0, description="this loss counts so many times, where there are others beside it")
    needs_reference: ClassVar[bool] = True

    def function(self) -> Callable[..., Any]:
        """The loss itself: takes a PairBatch and the hyperparameters by their names, gives one value a pair.

        A loss of another package returns its own. torch is imported by the call.
        """
        from selfalign.training.losses import pairwise

        found: Callable[..., Any] = getattr(pairwise, self.id)
        return found

    def reads(self) -> frozenset[Column]:
        """Columns of the pairs that the loss reads."""
        read: set[Column] = set()
        if getattr(self, "margin_scale", 0):
            read.add("margin")
        if getattr(self, "label_smoothing", None) == "pair":
            read.add("smoothing")
        return frozenset(read)


class _Spaced(PairLoss):
    margin_scale: float = Field(
        0.0, ge=0, description="the reward difference must exceed this times the pair's margin; 1 as in TRL, 0 is off"
    )


class DPO(_Spaced):
    """Hyperparameters of ``pairwise.dpo``: direct preference optimisation."""

    id: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")


class CDPO(_Spaced):
    """Hyperparameters of ``pairwise.cdpo``: DPO for labels that may be wrong."""

    id: Literal["cdpo"] = "cdpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    label_smoothing: Smoothing = Field(0.2, description=_SMOOTHING)


class RobustDPO(_Spaced):
    """Hyperparameters of ``pairwise.robust_dpo``: an unbiased estimate of DPO under wrong labels."""

    id: Literal["robust_dpo"] = "robust_dpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    label_smoothing: float = Field(0.1, ge=0, lt=0.5, description="chance that a label is wrong")


class SigmoidNorm(_Spaced):
    """Hyperparameters of ``pairwise.sigmoid_norm``: DPO with log-ratios a token."""

    id: Literal["sigmoid_norm"] = "sigmoid_norm"
    beta: float = Field(5.0, gt=0, description="strength of the pull towards the reference, a token")


class ODPO(PairLoss):
    """Hyperparameters of ``pairwise.odpo``: DPO with an offset by the margin."""

    id: Literal["odpo"] = "odpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    odpo_alpha: float = Field(1.0, ge=0, description="times log(margin), which the reward difference must exceed")

    def reads(self) -> frozenset[Column]:
        return frozenset({"margin"})


class DPOP(PairLoss):
    """Hyperparameters of ``pairwise.dpop``: DPO that punishes a falling chosen answer."""

    id: Literal["dpop"] = "dpop"
    beta: float = Field(0.3, gt=0, description="strength of the pull towards the reference")
    dpop_lambda: float = Field(50.0, ge=0, description="times the nats that the chosen answer has lost")


class RPO(_Spaced):
    """Hyperparameters of ``pairwise.rpo``: DPO with the chosen answer's NLL."""

    id: Literal["rpo"] = "rpo"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    rpo_alpha: float = Field(1.0, ge=0, description="times the chosen answer's NLL a token")


class SimPO(_Spaced):
    """Hyperparameters of ``pairwise.simpo``: rewards a token, without a reference."""

    id: Literal["simpo"] = "simpo"
    beta: float = Field(2.5, gt=0, description="times the mean log-probability a token is the reward")
    simpo_gamma: float = Field(1.375, ge=0, description="margin of the rewards; the paper's gamma, not gamma / beta")
    label_smoothing: Smoothing = Field(0.0, description=_SMOOTHING)
    needs_reference: ClassVar[bool] = False


class CPO(_Spaced):
    """Hyperparameters of ``pairwise.cpo``: without a reference, with the chosen answers' NLL."""

    id: Literal["cpo"] = "cpo"
    beta: float = Field(0.1, gt=0, description="times the log-probability is the reward")
    cpo_alpha: float = Field(1.0, ge=0, description="times the chosen answers' NLL a token")
    label_smoothing: Smoothing = Field(0.0, description=_SMOOTHING)
    needs_reference: ClassVar[bool] = False


class ORPO(PairLoss):
    """Hyperparameters of ``pairwise.orpo``: NLL and odds ratio, without a reference."""

    id: Literal["orpo"] = "orpo"
    orpo_lambda: float = Field(0.1, ge=0, description="times the odds-ratio loss; TRL calls it beta")
    needs_reference: ClassVar[bool] = False


class HingeNorm(PairLoss):
    """Hyperparameters of ``pairwise.hinge_norm``: RSO's hinge on log-ratios."""

    id: Literal["hinge_norm"] = "hinge_norm"
    beta: float = Field(0.05, gt=0, description="the paper's gamma: 1 / the nats that the log-ratios must differ by")


class Hinge(PairLoss):
    """Hyperparameters of ``pairwise.hinge``: RSO's hinge on log-probabilities, without a reference."""

    id: Literal["hinge"] = "hinge"
    beta: float = Field(0.05, gt=0, description="the paper's gamma: 1 / the nats that the answers must differ by")
    needs_reference: ClassVar[bool] = False


class SLiC(PairLoss):
    """Hyperparameters of ``pairwise.slic``: a hinge, and likelihood of the chosen answer."""

    id: Literal["slic"] = "slic"
    slic_delta: float = Field(1.0, gt=0, description="nats that the answers must differ by")
    slic_lambda: float = Field(0.1, ge=0, description="times the chosen answer's log-probability")
    needs_reference: ClassVar[bool] = False


class IPO(PairLoss):
    """Hyperparameters of ``pairwise.ipo``: squared distance of the log-ratios from a target."""

    id: Literal["ipo"] = "ipo"
    beta: float = Field(0.1, gt=0, description="the paper's tau: the log-ratios shall differ by 1 / (2 beta)")
    length_average: bool = Field(True, description="log-ratios a token, as in TRL; false: sums, as the paper writes it")


class SPPO(PairLoss):
    """Hyperparameters of ``pairwise.sppo``: squared distance of each log-ratio from its win rate."""

    id: Literal["sppo"] = "sppo"
    beta: float = Field(1e-3, gt=0, description="the paper's 1 / eta")
    hard: bool = Field(False, description="chosen wins always; else win rates are read from the pair's scores")

    def reads(self) -> frozenset[Column]:
        return frozenset() if self.hard else frozenset({"chosen_score", "rejected_score"})


class APOZero(PairLoss):
    """Hyperparameters of ``pairwise.apo_zero``: chosen up, rejected down."""

    id: Literal["apo_zero"] = "apo_zero"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")


class APODown(PairLoss):
    """Hyperparameters of ``pairwise.apo_down``: both down, rejected more."""

    id: Literal["apo_down"] = "apo_down"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")


class SFT(PairLoss):
    """Only beside another loss: the chosen answers' NLL a token."""

    id: Literal["sft"] = "sft"
    needs_reference: ClassVar[bool] = False


#: Name -> hyperparameters; the functions have the same names in pairwise.py.
LOSSES: Mapping[str, type[PairLoss]] = {
    str(loss.model_fields["id"].default): loss
    for loss in (
        DPO, CDPO, RobustDPO, SigmoidNorm, ODPO, DPOP, RPO, SimPO, CPO, ORPO, HingeNorm, Hinge, SLiC, IPO, SPPO, APOZero,
        APODown, SFT,
    )
}  # fmt: skip
