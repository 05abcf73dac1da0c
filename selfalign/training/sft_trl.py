"""trl.SFTTrainer on our token ids. Heavy imports: load inside train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import trl
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from selfalign.training.loop import stop_if_not_finite
from selfalign.training.losses.pairwise import weighted_nll
from selfalign.training.rows_trl import RowTrainer


@dataclass
class CompletionCollator(DataCollatorForLanguageModeling):  # type: ignore[misc]
    """TRL's collator, plus the examples' weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return {**batch, "weight": torch.tensor([example["weight"] for example in examples])}


class CompletionTrainer(RowTrainer, trl.SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with a loss over completion tokens that carries weights; see pairwise_trl.PairwiseTrainer."""

    def __init__(self, *args: Any, average: str = "tokens", **kwargs: Any) -> None:
        self.average = average
        super().__init__(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        if self.average == "examples":
            return super()._get_num_items_in_batch(batch_samples, device)
        return sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weighted mean NLL over the tokens or the examples of the whole optimizer step (this micro-batch's share)."""
        log_probs, n_tokens = self.completion_log_probs(model, inputs)
        n_here = int(n_tokens.sum())
        if self.average == "examples":
            log_probs, n_here = log_probs / n_tokens.clamp(min=1), len(n_tokens)
        loss = weighted_nll(log_probs, inputs["weight"], num_items_in_batch or n_here)
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        return loss

    def completion_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """(summed log-probabilities, token counts) of the completions, each [rows]."""
        learned = (inputs["labels"] != -100).long()
        log_probs = self.summed_log_probs(model, inputs["input_ids"], inputs["attention_mask"], learned)
        self.last_log_probs = log_probs.detach()
        return log_probs, learned[:, 1:].sum(dim=1)
