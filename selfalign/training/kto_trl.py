"""trl.KTOTrainer on our token ids, with our reference log-probabilities. Heavy imports: load inside train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import trl
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from selfalign.training.loop import stop_if_not_finite
from selfalign.training.losses.unary import kl_estimate, kto_losses
from selfalign.training.rows_trl import RowTrainer


@dataclass
class LabelCollator(DataCollatorForUnpairedPreference):  # type: ignore[misc]
    """TRL's collator, plus the examples' weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return {**batch, "weight": torch.tensor([example["weight"] for example in examples])}


class LabelTrainer(RowTrainer, trl.KTOTrainer):  # type: ignore[misc]
    """TRL's trainer with the same things replaced as in the trainer of pairs.

    The dataset is passed through (no tokenising, and its completions for z0 are ours); reference log-probabilities
    come as columns; the loss is ours, so that examples can carry weights, a last micro-batch of fewer examples is not
    over-weighted, and on CPUs only completion positions go through the head; nothing is sent to a hub.
    """

    #: As last_log_probs, of the batch's completions for z0.
    last_kl_log_probs: Any = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the step's loss: its examples' weighted losses over the examples of the step."""
        with torch.no_grad():
            kl_log_probs = self._log_probs(model, inputs, "KL_")
        log_probs = self._log_probs(model, inputs, "")
        self.last_log_probs, self.last_kl_log_probs = log_probs.detach(), kl_log_probs
        labels, ref = inputs["label"], inputs["ref_logps"]
        z0 = kl_estimate(kl_log_probs, inputs["ref_KL_logps"])
        losses = kto_losses(log_probs, ref, labels, z0, self.beta, self.desirable_weight, self.undesirable_weight)
        loss = (inputs["weight"] * losses).sum() / (num_items_in_batch or len(losses))
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        self._keep_figures(log_probs.detach() - ref, labels, z0)
        return loss

    def _keep_figures(self, ratios: Any, labels: Any, z0: Any) -> None:
        figures = self._metrics["train" if self.model.training else "eval"]
        figures["kl_estimate"].append(z0.item())
        for name, mask in (("desirable", labels), ("undesirable", ~labels)):
            if mask.any():
                figures[f"{name}_displacement"].append(ratios[mask].mean().item())

    def _log_probs(self, model: Any, inputs: dict[str, Any], prefix: str) -> Any:
        names = ("input_ids", "attention_mask", "completion_mask")
        return self.summed_log_probs(model, *(inputs[f"{prefix}{name}"] for name in names))
