"""trl.SFTTrainer's loop on rankings: several completions of one prompt in a micro-batch. Heavy imports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from selfalign.training.loop import stop_if_not_finite
from selfalign.training.sft_trl import CompletionCollator, CompletionTrainer

#: (summed log-probabilities, token counts, scores), each [n], of one ranking -> its loss, a scalar.
Objective = Callable[[Any, Any, Any], Any]


@dataclass
class RankingCollator(CompletionCollator):
    """Rankings as rows: input_ids and labels [all completions, T], scores [all completions] in float64 (ties!),
    sizes and weight [rankings]; completions of a ranking are neighbours, in its order."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [
            {
                "input_ids": [*example["prompt_ids"], *completion],
                "labels": [-100] * len(example["prompt_ids"]) + list(completion),
                "weight": example["weight"],
            }
            for example in examples
            for completion in example["completions"]
        ]
        return {
            **super().torch_call(rows),
            "weight": torch.tensor([example["weight"] for example in examples]),
            "scores": torch.tensor([s for example in examples for s in example["scores"]], dtype=torch.float64),
            "sizes": torch.tensor([len(example["completions"]) for example in examples]),
        }


class RankingTrainer(CompletionTrainer):
    """CompletionTrainer with a loss over the lists of a micro-batch."""

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        self.objective = objective
        super().__init__(*args, **kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "completions", "scores", "weight"]

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        return sum(len(batch["sizes"]) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the step's loss: its rankings' weighted losses over the rankings of the step."""
        log_probs, n_tokens = self.completion_log_probs(model, inputs)
        sizes = inputs["sizes"].tolist()
        lists = zip(*(values.split(sizes) for values in (log_probs, n_tokens, inputs["scores"])), strict=True)
        losses = torch.stack([self.objective(*values) for values in lists])
        loss = (inputs["weight"] * losses).sum() / (num_items_in_batch or len(losses))
        stop_if_not_finite(loss.detach(), self.state.global_step + 1)
        return loss
