"""What every trainer of TRL's that takes our rows has replaced. Heavy imports: load inside train()."""

from __future__ import annotations

from typing import Any, Literal

from selfalign.packing import pack, packed_log_probs, rows_as_sequences
from selfalign.training.logprobs import summed_log_probs
from selfalign.training.micro_batch import gains


class LocalTrainer:
    """Before a trainer of TRL's among the bases: nothing is written but the model, and nothing is sent to a hub."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card: the folder is described by the store."""

    def _send_telemetry(self) -> None:
        """None."""


class RowTrainer(LocalTrainer):
    """As LocalTrainer, for rows of token ids with columns of ours, of which ``weight`` is always one.

    The dataset is passed through (no tokenising), and reference log-probabilities are columns of it.
    """

    #: Columns of ours, beside those that TRL knows; it would drop them.
    own_columns: tuple[str, ...] = ("weight",)
    #: Whether sequences are packed: off, wherever a micro-batch gains by it, or always (packing.py).
    packing: Literal["off", "auto", "always"] = "off"
    #: Summed policy log-probabilities of the last batch's completions; of pairs [chosen ..., rejected ...].
    last_log_probs: Any = None
    # The loss is already divided by what the whole optimizer step counts.
    loss_is_scaled_for_ga = True
    _signature_columns: list[str]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        self._signature_columns += [name for name in self.own_columns if name not in self._signature_columns]

    def summed_log_probs(self, model: Any, input_ids: Any, attention_mask: Any, completion_mask: Any) -> Any:
        """Summed log-probability in nats of each row's completion, [rows], with gradient; arguments are [rows, T]."""
        if self.packing != "off":
            packed = pack(rows_as_sequences(input_ids, attention_mask, completion_mask))
            if self.packing == "always" or gains(len(packed.ids), *input_ids.shape):
                return packed_log_probs(model, packed)
        return summed_log_probs(model, input_ids, attention_mask, completion_mask)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        return sum(len(batch["weight"]) for batch in batch_samples)
