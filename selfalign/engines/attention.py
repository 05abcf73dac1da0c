"""Key-value cache and attention for decoding many short rows without copying what is already there.

Two costs dominate a decode step of a small model beside its matrix products: DynamicCache concatenates
(copies) the whole cache for every token, and grouped-query models repeat their keys and values for every
query head. Both are avoided here without a change to the result.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from selfalign.engines.key_blocks import attend_by_blocks

#: Name under which :func:`grouped_sdpa` is registered with transformers.
GROUPED_SDPA = "selfalign_sdpa"
#: Tokens of spare room a buffer gets when it grows: one copy every so many steps instead of every step.
_ROOM = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [rows, heads, length, head_dim] as views of a buffer with spare room."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._key_buffer, self._value_buffer = _room_for(key_states[:, :, :0]), _room_for(value_states[:, :, :0])
        self.keys, self.values = self._key_buffer[:, :, :0], self._value_buffer[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if end > self._key_buffer.shape[2]:
            self._key_buffer = _room_for(self.keys, end)
            self._value_buffer = _room_for(self.values, end)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values

    def keep(self, rows: torch.Tensor, first_column: int = 0) -> None:
        """Keep (or repeat) ``rows``, without the columns before ``first_column``."""
        length = self.keys.shape[2] - first_column
        self._key_buffer = _room_for(self.keys[:, :, first_column:], rows=rows)
        self._value_buffer = _room_for(self.values[:, :, first_column:], rows=rows)
        self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]

    def append(self, other: GrowingLayer) -> None:
        """Append the rows of ``other``; the columns of both end together."""
        length = max(self.keys.shape[2], other.keys.shape[2])
        self._key_buffer = _room_for_both(self.keys, other.keys)
        self._value_buffer = _room_for_both(self.values, other.values)
        self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.keep(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.keep(torch.arange(self.keys.shape[0], device=self.device).repeat_interleave(repeats))


def _room_for(states: torch.Tensor, length: int | None = None, rows: torch.Tensor | None = None) -> torch.Tensor:
    """A buffer that starts with ``states`` (only ``rows`` of it, if given) and has room for ``length`` and more."""
    batch, heads, used, width = states.shape
    buffer = states.new_empty(len(rows) if rows is not None else batch, heads, (length or used) + _ROOM, width)
    buffer[:, :, :used] = states if rows is None else states.index_select(0, rows)
    return buffer


def _room_for_both(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """A buffer with the rows of both, padded on the left, and room for more columns."""
    rows, heads, _, width = upper.shape
    length = max(upper.shape[2], lower.shape[2])
    buffer = upper.new_empty(rows + len(lower), heads, length + _ROOM, width)
    for states, part in ((upper, buffer[:rows]), (lower, buffer[rows:])):
        padding = length - states.shape[2]
        # Masked, but not left as memory happens to be: NaN times an attention of 0 is NaN.
        part[:, :, :padding] = 0
        part[:, :, padding:length] = states
    return buffer


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of ``config``: growing layers wherever attention is full."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """True where every layer sees all positions, so that padding between tokens changes no result."""
    return bool(cache.layers) and all(isinstance(layer, GrowingLayer) for layer in cache.layers)


def caches_plainly(config: Any) -> bool:
    """Whether a model of ``config`` has a plain cache: rows can share a beginning, be packed, and enter a batch late."""
    return is_plain(new_cache(config))


def keep_rows(cache: DynamicCache, rows: torch.Tensor, first_column: int = 0) -> None:
    """Keep (or repeat) rows of every layer; ``first_column`` > 0 needs a plain cache."""
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            layer.keep(rows, first_column)
        else:
            layer.batch_select_indices(rows)


def append_rows(cache: DynamicCache, other: DynamicCache) -> None:
    """Append the rows of ``other`` to every layer; both are plain."""
    for layer, more in zip(cache.layers, other.layers, strict=True):
        layer.append(more)


def copy_of_rows(cache: DynamicCache, config: Any, rows: torch.Tensor) -> DynamicCache:
    """A new plain cache holding ``rows`` of ``cache``, which is left as it is."""
    copy = new_cache(config)
    for source, target in zip(cache.layers, copy.layers, strict=True):
        target.lazy_initialization(source.keys, source.values)
        target.keys, target.values = source.keys, source.values
        target.keep(rows)
    return copy


def grouped_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention that treats the query heads of a group as queries of their shared key head.

    That holds for a single new token (all its heads see the same positions); longer queries go to transformers, or by
    the ``key_blocks`` that the forward pass was given (key_blocks.py).
    Shapes: query [rows, heads, 1, d]; key, value [rows, key heads, length, d]; result [rows, 1, heads, d].
    """
    blocks = kwargs.pop("key_blocks", None)
    rows, heads, n_queries, width = query.shape
    groups = heads // key.shape[1]
    plain = not kwargs.get("dropout") and kwargs.get("position_bias") is None
    if plain and blocks is not None:
        return attend_by_blocks(query, key, value, blocks, scaling), None
    if n_queries != 1 or groups == 1 or not plain:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, key.shape[1], groups, width), key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(rows, 1, heads, value.shape[-1]), None


def register_grouped_sdpa() -> None:
    """Make ``attn_implementation=GROUPED_SDPA`` known to transformers; harmless when repeated."""
    AttentionInterface.register(GROUPED_SDPA, grouped_sdpa)
    AttentionMaskInterface.register(GROUPED_SDPA, sdpa_mask)
