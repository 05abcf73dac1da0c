"""Attention over a mask that is mostly False, as that of a forest is: each token sees its ancestors only.

Torch's kernel multiplies every query with every key and then masks what is not seen. Here the queries of a row go in
blocks, each with those keys alone that some of its queries see. The result is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: Queries of a block. Fewer see fewer keys in vain, and are more calls.
_QUERIES = 64


@dataclass(frozen=True)
class KeyBlock:
    """Queries ``start`` to ``stop`` and the keys ``columns`` (int64 [columns]) that some of them sees.

    ``bias`` [1, 1, queries, columns] is 0 where a query sees a column, -inf elsewhere.
    """

    start: int
    stop: int
    columns: torch.Tensor
    bias: torch.Tensor


def key_blocks(mask: torch.Tensor, dtype: torch.dtype) -> list[KeyBlock]:
    """Blocks of a mask [1, 1, queries, keys], true where a query sees a key; ``dtype`` is that of the queries."""
    blocks = []
    for start in range(0, mask.shape[2], _QUERIES):
        seen = mask[:, :, start : start + _QUERIES]
        columns = seen.any(dim=2).flatten().nonzero().squeeze(-1)
        seen = seen[..., columns]
        bias = torch.zeros(seen.shape, dtype=dtype, device=mask.device).masked_fill_(~seen, float("-inf"))
        blocks.append(KeyBlock(start, start + seen.shape[2], columns, bias))
    return blocks


def attend_by_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[KeyBlock], scaling: float | None
) -> torch.Tensor:
    """Shapes: query [1, heads, queries, d]; key, value [1, key heads, keys, d]; result [1, queries, heads, d]."""
    _, heads, n_queries, width = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    # A group's heads are rows of a batch that have their key head in common: nothing is repeated.
    queries = query.reshape(key_heads, groups, n_queries, width).transpose(0, 1)
    result = query.new_empty(n_queries, key_heads, groups, value.shape[-1])
    for block in blocks:
        keys, values = (states[0].index_select(1, block.columns).expand(groups, -1, -1, -1) for states in (key, value))
        attended = torch.nn.functional.scaled_dot_product_attention(
            queries[:, :, block.start : block.stop], keys, values, attn_mask=block.bias, scale=scaling
        )
        result[block.start : block.stop] = attended.permute(2, 1, 0, 3)
    return result.reshape(1, n_queries, heads, value.shape[-1])


def reads_blocks(model: Any) -> bool:
    """Whether ``model`` gives its attention the ``key_blocks`` of a forward pass: told by blocks that deny its mask."""
    ids = torch.arange(2, device=model.device).unsqueeze(0)
    causal = torch.ones(1, 1, 2, 2, dtype=torch.bool, device=model.device).tril()
    alone = key_blocks(torch.eye(2, dtype=torch.bool, device=model.device)[None, None], model.dtype)
    asked = {"input_ids": ids, "attention_mask": causal, "use_cache": False}
    try:
        by_blocks = model.base_model(**asked, key_blocks=alone).last_hidden_state
    except TypeError:
        return False
    return not torch.equal(by_blocks, model.base_model(**asked).last_hidden_state)
