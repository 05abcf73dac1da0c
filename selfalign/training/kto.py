"""Kahneman-Tversky optimisation on wanted and unwanted answers (Ethayarajh et al., arXiv 2402.01306), by TRL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from selfalign.errors import EmptyStage
from selfalign.protocols import TrainingJob
from selfalign.training.settings import REFERENCE, Reference, TrainingSettings
from selfalign.types import TrainingResult


class KTOConfig(TrainingSettings):
    """Settings of the ``kto`` trainer; defaults are those of the paper, section 4 and appendix."""

    id: Literal["kto"] = "kto"
    beta: float = Field(0.1, gt=0, description="strength of the pull towards the reference")
    learning_rate: float = Field(5e-6, ge=0)
    batch_size: int = Field(32, ge=1, description="examples an optimizer step")
    weights: Literal["auto", "given"] = Field(
        "auto", description="auto: the rarer class counts more, so that both count about the same; given: the next two"
    )
    desirable_weight: float = Field(1.0, gt=0, description="weight of wanted answers (lambda_D)")
    undesirable_weight: float = Field(1.0, gt=0, description="weight of unwanted answers (lambda_U)")
    reference: Reference = Field("previous", description=REFERENCE)

    needs_reference: ClassVar[bool] = True
    #: Completions of a row that are read in each step and not trained on: those that estimate z0.
    only_read: ClassVar[int] = 1

    @model_validator(mode="after")
    def _has_neighbours(self) -> KTOConfig:
        if self.micro_batch() < 2:
            raise ValueError(
                "micro_batch_size and batch_size must be at least 2: the divergence from the reference is estimated "
                "from the other completions of a micro-batch"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_given_once(self) -> KTOConfig:
        if self.weights == "auto" and (self.desirable_weight, self.undesirable_weight) != (1.0, 1.0):
            raise ValueError(
                "weights: auto computes desirable_weight and undesirable_weight; to set them, weights: given"
            )
        return self


class KTOTrainer:
    """KTO on token ids, with reference log-probabilities computed once, before training.

    The reference point z0 of a micro-batch is estimated from its own completions, each behind another's prompt
    (kto_rows.py), so that larger micro-batches make it less noisy.

    ``TrainingResult.metrics``; figures of answers are over the first 32 labels of each class in order of id, with the
    weights as written (a = policy - reference, summed over tokens, in nats; "parent" is the checkpoint this round
    started from):

    - ``measured``, ``desirable_measured``, ``undesirable_measured``: how many these are
    - ``desirable_displacement``, ``undesirable_displacement``: mean a of wanted and of unwanted answers;
      ``..._per_token`` divides each by its answer's length
    - ``desirable_logp_change``, ``undesirable_logp_change``: the same against the parent
    - ``reward_margin``: beta times the difference of the two displacements
    - ``kl_estimate``: z0 of these answers, nats; ``kl_mismatched``: share of the training's rows whose completion for z0
      answers another prompt (below 1 where a micro-batch has too many answers to one prompt)
    - ``n_desirable``, ``n_undesirable``; ``desirable_weight``, ``undesirable_weight`` as used; ``balance``: the ratio of
      the classes' total weights, which should lie in [1, 4/3] (eq. 8)
    - ``train_loss``: mean over the last tenth of the steps; ``train_loss_first``; ``steps``
    - ``guard_loss``, ``guard_loss_expected``, ``guard_logp_gap``: the step-1 guards (guards.py)
    """

    name = "kto"
    needs = "labels"
    Config: ClassVar[type[KTOConfig]] = KTOConfig

    def __init__(self, config: KTOConfig) -> None:
        self.config = config

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.labels`` against ``job.reference`` and write ``job.output``; raises as DPOTrainer.train.

        Raises:
            EmptyStage: no labels, or labels of one class only.
        """
        wanted = sum(example.label for example in job.labels)
        if not job.labels:
            raise EmptyStage("no labels to train on; the pair builder left every candidate out")
        if wanted in (0, len(job.labels)):
            raise EmptyStage(
                f"all {len(job.labels)} labels are {'desirable' if wanted else 'undesirable'}, and KTO needs both kinds: "
                f"move the thresholds of the pair builder, or use train: sft on desirable answers alone"
            )
        from selfalign.training.kto_run import train

        return train(self.config, job)
