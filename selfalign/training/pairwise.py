"""Trainers on preference pairs, by TRL: one name a loss, each with its paper's defaults."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from selfalign.errors import EmptyStage
from selfalign.protocols import TrainingJob
from selfalign.training.losses import pairwise_settings as losses
from selfalign.training.losses.pairwise_settings import LOSSES, PairLoss
from selfalign.training.settings import REFERENCE, Reference, TrainingSettings
from selfalign.types import TrainingResult

#: Settings that came after the first runs. Ids and fingerprints hash what is dumped, so they are left out while off.
_LEFT_OUT_WHEN_OFF = {"weight": 1.0, "plus": [], "order": "shuffled", "margin_scale": 0.0}


def _term(value: Any) -> Any:
    """``sft``, ``{id: sft, weight: 0.2}`` or the settings themselves."""
    if isinstance(value, PairLoss):
        return value
    if isinstance(value, str):
        value = {"id": value}
    if not isinstance(value, dict) or value.get("id") not in LOSSES:
        raise ValueError(f"needs the 'id' of a loss; known: {', '.join(LOSSES)}")
    return LOSSES[value["id"]].model_validate(value)


class PairSettings(TrainingSettings, PairLoss):
    """What every trainer on pairs takes, beside the hyperparameters of its own loss."""

    nll_weight: float = Field(0.0, ge=0, description="adds this times the chosen answers' NLL, against displacement")
    plus: tuple[Annotated[Any, BeforeValidator(_term)], ...] = Field(
        (), description="further losses to add, e.g. [{id: sft, weight: 0.2}]"
    )
    order: Literal["shuffled", "easy_to_hard", "as_given"] = Field(
        "shuffled", description="easy_to_hard: by margin, the largest first, in every epoch"
    )

    def losses(self) -> tuple[PairLoss, ...]:
        """The terms of the loss: the trainer's own, the NLL, and those of ``plus``."""
        nll = (losses.SFT(weight=self.nll_weight),) if self.nll_weight else ()
        return (self, *nll, *self.plus)

    @model_validator(mode="after")
    def _fits_together(self) -> PairSettings:
        if not self.needs_reference and (others := [term.id for term in self.plus if term.needs_reference]):
            raise ValueError(f"plus: '{others[0]}' needs a reference, which {self.id} has not; swap the two")
        if self.order != "shuffled" and self.length_bucketing:
            raise ValueError("length_bucketing: sorts by length, so order must be shuffled")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        off = {key for key, value in _LEFT_OUT_WHEN_OFF.items() if data.get(key) in (value, ())}
        return {key: value for key, value in data.items() if key not in off}


class ReferenceSettings(PairSettings):
    """For a loss that compares with a frozen reference."""

    reference: Reference = Field("previous", description=REFERENCE)


class PairTrainer:
    """Trains on pairs of token ids, with reference log-probabilities computed once, before training.

    ``TrainingResult.metrics``, over the first 64 pairs of answers in order of id, with the weights as written
    (a = policy - reference of the chosen answer, b of the rejected one, summed over tokens, in nats;
    "parent" is the checkpoint this round started from, and takes the reference's place where the loss needs none):

    - ``measured``: how many pairs these are
    - ``chosen_displacement``, ``rejected_displacement``: mean a, mean b; ``..._per_token`` divides
      each by its answer's length. Both falling while the margin grows is likelihood displacement.
    - ``chosen_logp_change``, ``rejected_logp_change``: the same against the parent
    - ``reward_margin``: beta * mean(a - b), beta 1 where the loss has none; ``reward_accuracy``: share of a > b
    - ``ranking_accuracy``: share of pairs whose chosen answer is at least as likely as the rejected
      one (arXiv 2405.19534), ``ranking_accuracy_parent`` before training
    - ``judgement_...``: all of these once more over the first 64 pairs of judgements, where there are any
    - ``train_loss``: mean over the last tenth of the steps; ``train_loss_first``; ``steps``
    - ``guard_loss``, ``guard_loss_expected``, ``guard_logp_gap``: the step-1 guards (guards.py), of the trainer's own
      loss without ``nll_weight`` and ``plus``
    """

    needs = "pairs"
    Config: ClassVar[type[PairSettings]]

    def __init__(self, config: PairSettings) -> None:
        self.config = config
        self.name = config.id

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.pairs``, against ``job.reference`` where the loss needs one, and write ``job.output``.

        Raises:
            EmptyStage: no pairs.
            BadInput: a pair that cannot be trained on, e.g. a prompt longer than max_length - 1, or without what the
                loss reads (a margin above 0, a win rate, a smoothing).
            GuardFailed: training would start, or has ended, in the wrong place.
            StageFailed: not finite loss or a full disk.
        """
        if not job.pairs:
            raise EmptyStage(
                "no pairs to train on: the pair builder dropped every prompt; sample more candidates or ask for less margin"
            )
        from selfalign.training.pairwise_run import train

        return train(self.config, job)


class DPOTrainer(PairTrainer):
    """Direct preference optimisation (arXiv 2305.18290); learning rate and beta of its appendix B."""

    class Config(losses.DPO, ReferenceSettings):
        @model_validator(mode="wrap")
        @classmethod
        def _with_another_loss(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
            """``{id: dpo, loss: ipo}`` is ``{id: ipo}``; a mapping gives the loss's hyperparameters as well."""
            if not isinstance(data, dict) or "loss" not in data:
                return handler(data)
            loss = data["loss"] if isinstance(data["loss"], dict) else {"id": data["loss"]}
            name = _TRL_NAMES.get(str(loss.get("id")), loss.get("id"))
            if not isinstance(name, str) or name not in TRAINERS:
                raise ValueError(f"unknown loss '{loss.get('id')}'; known: {', '.join(TRAINERS)}")
            rest = {key: value for key, value in data.items() if key != "loss"}
            return TRAINERS[name].Config.model_validate({**rest, **loss, "id": name})


class CDPOTrainer(PairTrainer):
    """Conservative DPO, for noisy labels; label smoothing of HALOs."""

    class Config(losses.CDPO, ReferenceSettings):
        pass


class RobustDPOTrainer(PairTrainer):
    """Provably robust DPO (arXiv 2403.00409); label smoothing of its section 6."""

    class Config(losses.RobustDPO, ReferenceSettings):
        pass


class IPOTrainer(PairTrainer):
    """Identity preference optimisation (arXiv 2310.12036)."""

    class Config(losses.IPO, ReferenceSettings):
        pass


class SigmoidNormTrainer(PairTrainer):
    """Length-normalised DPO of Tulu 3 (arXiv 2411.15124)."""

    class Config(losses.SigmoidNorm, ReferenceSettings):
        learning_rate: float = Field(5e-7, ge=0)


class ODPOTrainer(PairTrainer):
    """DPO with an offset by the pair's margin (arXiv 2402.10571)."""

    class Config(losses.ODPO, ReferenceSettings):
        pass


class DPOPTrainer(PairTrainer):
    """DPO-Positive of Smaug (arXiv 2402.13228)."""

    class Config(losses.DPOP, ReferenceSettings):
        pass


class RPOTrainer(PairTrainer):
    """DPO + NLL of iterative reasoning preference optimisation (arXiv 2404.19733)."""

    class Config(losses.RPO, ReferenceSettings):
        pass


class SPPOTrainer(PairTrainer):
    """Self-play preference optimisation (arXiv 2405.00675)."""

    class Config(losses.SPPO, ReferenceSettings):
        learning_rate: float = Field(5e-7, ge=0)


class APOZeroTrainer(PairTrainer):
    """Anchored preference optimisation, zero (arXiv 2408.06266); learning rate and beta of its section 5.2."""

    class Config(losses.APOZero, ReferenceSettings):
        learning_rate: float = Field(2e-7, ge=0)


class APODownTrainer(PairTrainer):
    """Anchored preference optimisation, down (arXiv 2408.06266); learning rate and beta of its section 5.2."""

    class Config(losses.APODown, ReferenceSettings):
        learning_rate: float = Field(2e-7, ge=0)


class HingeNormTrainer(PairTrainer):
    """RSO's hinge-norm (arXiv 2309.06657), TRL's loss ``hinge``."""

    class Config(losses.HingeNorm, ReferenceSettings):
        learning_rate: float = Field(1e-5, ge=0)


class HingeTrainer(PairTrainer):
    """RSO's hinge (arXiv 2309.06657), without reference."""

    class Config(losses.Hinge, PairSettings):
        learning_rate: float = Field(1e-5, ge=0)


class SLiCTrainer(PairTrainer):
    """SLiC-HF (arXiv 2305.10425), without reference."""

    class Config(losses.SLiC, PairSettings):
        learning_rate: float = Field(1e-5, ge=0)


class SimPOTrainer(PairTrainer):
    """SimPO (arXiv 2405.14734), without reference; the settings of its Llama-3-Instruct."""

    class Config(losses.SimPO, PairSettings):
        learning_rate: float = Field(1e-6, ge=0)


class CPOTrainer(PairTrainer):
    """Contrastive preference optimisation (arXiv 2401.08417), without reference."""

    class Config(losses.CPO, PairSettings):
        pass


class ORPOTrainer(PairTrainer):
    """Odds-ratio preference optimisation (arXiv 2403.07691), without reference; the settings of its Mistral."""

    class Config(losses.ORPO, PairSettings):
        learning_rate: float = Field(5e-6, ge=0)


#: Name -> trainer.
TRAINERS: dict[str, type[PairTrainer]] = {
    str(trainer.Config.model_fields["id"].default): trainer
    for trainer in (
        DPOTrainer, CDPOTrainer, RobustDPOTrainer, IPOTrainer, SigmoidNormTrainer, ODPOTrainer, DPOPTrainer, RPOTrainer,
        SPPOTrainer, APOZeroTrainer, APODownTrainer, HingeNormTrainer, HingeTrainer, SLiCTrainer, SimPOTrainer,
        CPOTrainer, ORPOTrainer,
    )
}  # fmt: skip
#: Names of TRL's ``loss_type`` that differ from ours.
_TRL_NAMES = {"sigmoid": "dpo", "robust": "robust_dpo"}
