"""trl.DPOTrainer on our token ids, with our losses and reference log-probabilities. Heavy: load inside train()."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
import trl
from trl.trainer.dpo_trainer import DataCollatorForPreference

from selfalign.training.loop import stop_if_not_finite
from selfalign.training.losses.objective import pair_losses
from selfalign.training.losses.pairwise import PairBatch
from selfalign.training.losses.pairwise_settings import Column, PairLoss
from selfalign.training.rows_trl import RowTrainer

#: Columns of ours, beside those that TRL's collator knows.
_OURS = ("weight", *get_args(Column))


@dataclass
class PairCollator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's collator, plus the pairs' weights and what the loss reads."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        ours = {name: torch.tensor([e[name] for e in examples]) for name in _OURS if name in examples[0]}
        return {**batch, **ours}


class PairwiseTrainer(RowTrainer, trl.DPOTrainer):  # type: ignore[misc]
    """TRL's trainer with five things replaced.

    The dataset is passed through (no tokenising); reference log-probabilities come as columns, or not at all; the
    loss is ours, so that it can be any, pairs can carry weights, a last micro-batch of fewer pairs is not
    over-weighted, and on CPUs only completion positions go through the head; nothing is sent to a hub.
    """

    own_columns = _OURS

    def __init__(self, *args: Any, losses: Sequence[PairLoss], **kwargs: Any) -> None:
        self.losses = losses
        super().__init__(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the step's loss: its pairs' weighted losses over the pairs of the step."""
        log_probs, n_tokens = self._log_probs(model, inputs)
        self.last_log_probs = log_probs.detach()
        chosen, rejected = log_probs.chunk(2)
        chosen_length, rejected_length = n_tokens.chunk(2)
        batch = PairBatch(
            chosen, rejected, chosen_length, rejected_length,
            ref_chosen=inputs.get("ref_chosen_logps"), ref_rejected=inputs.get("ref_rejected_logps"),
            **{name: inputs.get(name) for name in get_args(Column)},
        )  # fmt: skip
        loss = (inputs["weight"] * pair_losses(self.losses, batch)).mean()
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        self._keep_figures(batch)
        n_pairs = len(inputs["weight"])
        return loss * (n_pairs / (num_items_in_batch or n_pairs))

    def _log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """(summed log-probabilities, token counts), each [2 * pairs]."""
        mask = inputs["completion_mask"]
        log_probs = self.summed_log_probs(model, inputs["input_ids"], inputs["attention_mask"], mask)
        return log_probs, mask[:, 1:].sum(dim=1)

    def _keep_figures(self, batch: PairBatch) -> None:
        """Displacement from the reference; without one, the log-probabilities themselves."""
        figures = self._metrics["train" if self.model.training else "eval"]
        chosen, rejected = batch.chosen.detach(), batch.rejected.detach()
        if batch.ref_chosen is None:
            figures["chosen_logp"].append(chosen.mean().item())
            figures["rejected_logp"].append(rejected.mean().item())
            figures["ranking_accuracy"].append((chosen >= rejected).float().mean().item())
            return
        a, b = chosen - batch.ref_chosen, rejected - batch.ref_rejected
        figures["chosen_displacement"].append(a.mean().item())
        figures["rejected_displacement"].append(b.mean().item())
        figures["reward_margin"].append(self.beta * (a - b).mean().item())
        figures["reward_accuracy"].append((a > b).float().mean().item())
