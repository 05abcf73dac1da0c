"""Reward models: a sequence-classification head trained on preference pairs, by TRL's RewardTrainer.

Loss -log s(r_chosen - r_rejected - margin), Bradley-Terry as in InstructGPT (arXiv 2203.02155, section 3.5), the
margin as in Llama 2 (arXiv 2307.09288, section 3.2.2). Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.errors import EmptyStage
from selfalign.identity import derive_seed
from selfalign.types import PairExample

#: Beside the weights: what a judge must know to put rewards on [0, 1], and where the model comes from.
RECORD = "reward.json"
#: Fewer pairs than this are no measure; none are then set aside.
_LEAST_HELD_OUT = 5


class RewardSettings(Settings):
    """How a reward model is trained; all weights are, not only the head."""

    learning_rate: float = Field(1e-5, gt=0)
    epochs: float = Field(1.0, gt=0, description="more than one or two overfits")
    batch_size: int = Field(16, ge=1, description="pairs an optimizer step")
    micro_batch_size: int = Field(4, ge=1, description="pairs a forward pass; must divide batch_size")
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    max_grad_norm: float = Field(1.0, ge=0, description="0 is off")
    max_length: int = Field(1024, ge=2, description="longer answers are cut at their end; prompts never are")
    margin: Literal["none", "pair"] = Field("none", description="pair: the reward difference must exceed pairs.margin")
    center: float | None = Field(None, ge=0, description="center_rewards_coefficient of TRL; 0.01 is usual")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of prompts whose pairs only measure the model")


@dataclass(frozen=True)
class RewardResult:
    """``accuracy`` is on ``n_held_out`` pairs of unseen prompts (None without any), ``train_accuracy`` on the others.

    ``mean`` and ``std`` are of the rewards of all training answers.
    """

    weights_hash: str
    n_examples: int
    n_held_out: int
    train_accuracy: float
    accuracy: float | None
    mean: float
    std: float
    history: Sequence[Mapping[str, float]]


def split_pairs(pairs: Sequence[PairExample], share: float, seed: int) -> tuple[list[PairExample], list[PairExample]]:
    """(training, held out), split by prompt: both answers of a prompt, in whatever pair, are on one side.

    Whether a prompt is held out depends on it and the seed alone. Too few held-out pairs to measure by are none.

    Raises:
        EmptyStage: there is nothing to train on.
    """
    chosen = [p for p in pairs if derive_seed(seed, "reward_split", list(p.prompt_ids)) < share * 2**63]
    held_out = chosen if len(chosen) >= _LEAST_HELD_OUT else []
    aside = {p.pair_id for p in held_out}
    training = [p for p in pairs if p.pair_id not in aside]
    if not training:
        raise EmptyStage("no pairs to train a reward model on; make some rounds first, or lower held_out")
    return training, held_out


def train_reward(
    config: RewardSettings,
    parent: Path,
    pairs: Sequence[PairExample],
    output: Path,
    scratch: Path,
    seed: int,
    report: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, metrics: None,
) -> RewardResult:
    """Train ``parent`` with a new scalar head on ``pairs`` and write a plain Hugging Face folder to ``output``.

    Deterministic by ``seed``: the head, the split and the order. Pairs with equal answers teach nothing and are left
    out. ``output`` also gets RECORD.

    Raises:
        EmptyStage: no usable pairs. ModelError: ``parent`` cannot be loaded. BadInput: a pair does not fit max_length.
        StageFailed: the loss is not finite.
    """
    from selfalign.training.reward_run import run

    return run(config, parent, pairs, output, scratch, seed, report)
