"""Sequences that begin alike, laid out so that every common beginning is read once: a forest of tokens in one row.

A token sees its ancestors only and stands at the position that it has in its sequence, so that each sequence's
log-probabilities are those that it has alone, up to rounding. The last token of a completion is predicted and never
read. Imports torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from selfalign.prefixes import by_neighbours, tokens_to_read
from selfalign.types import TokenSequence


@dataclass(frozen=True)
class Packed:
    """``n`` tokens in depth-first order.

    ``ids``, ``positions`` and ``last`` are [n]: token, place in its sequence, and the last of the tokens below it.
    ``read_from`` are the tokens after which something is predicted. Each prediction is three entries: ``column``
    (into ``read_from``), ``target`` (the token predicted) and ``owner`` (the sequence that it counts for).
    """

    ids: Any
    positions: Any
    last: Any
    read_from: Any
    column: Any
    target: Any
    owner: Any
    n_sequences: int

    def mask(self) -> Any:
        """[1, 1, n, n], true where the row's token sees the column's: itself and what comes before it in a sequence."""
        n = len(self.ids)
        rows = torch.arange(n, device=self.ids.device)
        return ((rows[None, :] <= rows[:, None]) & (rows[:, None] <= self.last[None, :]))[None, None]


def pack(sequences: Sequence[TokenSequence]) -> Packed:
    """The forest of ``sequences``, each of at least one prompt token."""
    texts = [s.prompt_ids + s.completion_ids for s in sequences]
    reads = [tokens_to_read(s) for s in sequences]
    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    read_from: dict[int, int] = {}
    predictions: list[tuple[int, int, int]] = []
    path: list[int] = []
    for index, shared in by_neighbours(reads):
        text, read = texts[index], reads[index]
        del path[shared:]
        for position in range(shared, len(read)):
            path.append(len(ids))
            ids.append(read[position])
            positions.append(position)
            last.append(0)
        for node in path:
            last[node] = len(ids) - 1
        for position in range(len(sequences[index].prompt_ids), len(text)):
            column = read_from.setdefault(path[position - 1], len(read_from))
            predictions.append((column, text[position], index))
    columns = [[prediction[place] for prediction in predictions] for place in range(3)]
    tensors = [torch.tensor(v, dtype=torch.long) for v in (ids, positions, last, list(read_from), *columns)]
    return Packed(*tensors, n_sequences=len(sequences))  # type: ignore[misc]


def packed_log_probs(model: Any, packed: Packed) -> Any:
    """Summed log-probability in nats of each sequence's completion, [sequences], with gradient."""
    logits = model(
        input_ids=packed.ids[None],
        attention_mask=packed.mask(),
        position_ids=packed.positions[None],
        use_cache=False,
        logits_to_keep=packed.read_from,
    ).logits[0]
    losses = F.cross_entropy(logits.float()[packed.column], packed.target, reduction="none")
    return torch.zeros(packed.n_sequences, device=losses.device).index_add(0, packed.owner, -losses)


def rows_as_sequences(input_ids: Any, attention_mask: Any, completion_mask: Any) -> list[TokenSequence]:
    """The rows of a batch, [rows, T] each and padded on the right; a completion goes from its first token to the end."""
    found = []
    for ids, attended, completion in zip(
        *(t.tolist() for t in (input_ids, attention_mask, completion_mask)), strict=True
    ):
        end = sum(attended)
        begin = completion.index(1) if 1 in completion else end
        found.append(TokenSequence(tuple(ids[:begin]), tuple(ids[begin:end])))
    return found


def can_pack(model: Any, kernels: Sequence[str] = ("sdpa", "eager")) -> bool:
    """Whether the architecture reads the mask and the positions it is given: full attention in every layer, no state.

    ``kernels`` are the attention implementations that take a mask of any form.
    """
    config = without_adapter(model).config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return (
        kinds == {"full_attention"}
        and not windowed
        and getattr(config, "_attn_implementation", None) in kernels
        and takes(model, "attention_mask", "position_ids", "logits_to_keep")
    )


def without_adapter(model: Any) -> Any:
    """The causal language model that ``model`` is, or that PEFT has wrapped."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def takes(model: Any, *names: str) -> bool:
    """Whether the forward pass of ``model``, see :func:`without_adapter`, has all these arguments."""
    return set(names) <= inspect.signature(type(without_adapter(model)).forward).parameters.keys()
