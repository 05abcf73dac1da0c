"""trl.DPOTrainer on our token ids, with our reference log-probabilities. Heavy imports: load inside train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import trl
from trl.trainer.dpo_trainer import DataCollatorForPreference

from selfalign.training.logprobs import completion_log_probs
from selfalign.training.loop import stop_if_not_finite
from selfalign.training.losses.pairwise import dpo_losses, weighted_nll

_NOT_MODEL_INPUTS = ("completion_mask", "ref_chosen_logps", "ref_rejected_logps", "weight")


@dataclass
class PairCollator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's collator, plus the pairs' weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return {**batch, "weight": torch.tensor([example["weight"] for example in examples])}


class PairTrainer(trl.DPOTrainer):  # type: ignore[misc]
    """TRL's trainer with five things replaced.

    The dataset is passed through (no tokenising); reference log-probabilities come as columns; the
    loss is ours, so that pairs can carry weights, a last micro-batch of fewer pairs is not
    over-weighted, and on CPUs only completion positions go through the head; nothing is sent to a hub.
    """

    # The loss is already divided by the pairs of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, nll_weight: float, **kwargs: Any) -> None:
        self.nll_weight = nll_weight
        #: Summed policy log-probabilities of the last batch, [chosen ..., rejected ...].
        self.last_log_probs: Any = None
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        return sum(len(batch["weight"]) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the step's loss: its pairs' weighted losses over the pairs of the step."""
        log_probs, n_tokens = self._log_probs(model, inputs)
        self.last_log_probs = log_probs.detach()
        chosen, rejected = log_probs.chunk(2)
        ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        losses = dpo_losses(chosen, rejected, ref_chosen, ref_rejected, self.beta)
        loss = (inputs["weight"] * losses).mean()
        if self.nll_weight:
            # As TRL's "sft" loss: the mean over the chosen tokens of the micro-batch.
            loss = loss + self.nll_weight * weighted_nll(chosen, inputs["weight"], n_tokens.chunk(2)[0].sum())
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        self._keep_figures(chosen.detach() - ref_chosen, rejected.detach() - ref_rejected)
        return loss * (len(losses) / (num_items_in_batch or len(losses)))

    def _log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """(summed log-probabilities, token counts), each [2 * pairs]."""
        mask, ids = inputs["completion_mask"], inputs["input_ids"]
        if ids.device.type == "cpu":
            per_token = completion_log_probs(model, ids, mask)
        else:
            # TRL's fused head never holds a [tokens, vocabulary] matrix; without Triton it projects the prompt too.
            kept = {key: value for key, value in inputs.items() if key not in _NOT_MODEL_INPUTS}
            labels = ids.masked_fill(mask == 0, -100)
            per_token = model(**kept, labels=labels, use_cache=False, fused_lm_head=True).log_probs
        return per_token.sum(dim=1), mask[:, 1:].sum(dim=1)

    def _keep_figures(self, chosen_ratio: Any, rejected_ratio: Any) -> None:
        figures = self._metrics["train" if self.model.training else "eval"]
        figures["chosen_displacement"].append(chosen_ratio.mean().item())
        figures["rejected_displacement"].append(rejected_ratio.mean().item())
        figures["reward_margin"].append(self.beta * (chosen_ratio - rejected_ratio).mean().item())
        figures["reward_accuracy"].append((chosen_ratio > rejected_ratio).float().mean().item())

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card: the folder is described by the store."""

    def _send_telemetry(self) -> None:
        """None."""
