from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from selfalign.engines import key_blocks
from selfalign.engines.attention import GROUPED_SDPA, register_grouped_sdpa
from selfalign.engines.key_blocks import attend_by_blocks, reads_blocks
from selfalign.packing import pack
from selfalign.types import TokenSequence

SEQUENCE = st.builds(
    TokenSequence,
    st.lists(st.integers(1, 3), min_size=1, max_size=6).map(tuple),
    st.lists(st.integers(1, 3), max_size=6).map(tuple),
)


@settings(deadline=None)
@given(
    sequences=st.lists(SEQUENCE, min_size=1, max_size=8), prefix=st.integers(0, 5), size=st.integers(1, 9),
    groups=st.integers(1, 3), seed=st.integers(0, 1000),
)  # fmt: skip
def test_blocks_change_nothing(sequences: list[TokenSequence], prefix: int, size: int, groups: int, seed: int) -> None:
    mask = pack(sequences).mask()
    n = mask.shape[2]
    mask = torch.cat([mask.new_ones(1, 1, n, prefix), mask], dim=-1)
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, 2 * groups, n, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, n + prefix, 8, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_blocks, "_QUERIES", size)
        blocks = key_blocks.key_blocks(mask, torch.float32)
    assert [block.start for block in blocks] == list(range(0, n, size)) and blocks[-1].stop == n
    assert all(bool((block.bias == 0).any(dim=2).all()) for block in blocks), "no key is read in vain by a whole block"
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(attend_by_blocks(query, key, value, blocks, 0.3), expected.transpose(1, 2))


def test_a_model_that_ignores_blocks_is_found_out(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert not reads_blocks(model), "its attention is that of transformers"
    register_grouped_sdpa()
    model.set_attn_implementation(GROUPED_SDPA)
    assert reads_blocks(model)
