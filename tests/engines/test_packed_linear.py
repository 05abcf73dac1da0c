from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from selfalign.engines import packed_linear
from selfalign.engines.packed_linear import PackedLinear, pack_linears

pytestmark = pytest.mark.skipif(not packed_linear._works(), reason="this build of torch has no oneDNN linear operators")


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 1), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    linear = torch.nn.Linear(24, 40, bias=bias)
    x = torch.randn(*shape, 24)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), rtol=1e-4, atol=1e-5)


def test_a_model_gives_the_same_logits_and_shares_its_embedding(tiny_model: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    packed = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    linears = sum(type(module) is torch.nn.Linear for module in plain.modules())
    assert pack_linears(packed) == linears > 0
    assert pack_linears(packed) == 0, "nothing is packed twice"
    ids = torch.arange(3, 40).reshape(1, -1)
    with torch.inference_mode():
        torch.testing.assert_close(packed(ids).logits, plain(ids).logits, rtol=1e-3, atol=1e-4)
    assert torch.equal(packed.get_input_embeddings().weight, plain.get_input_embeddings().weight)


def test_other_number_formats_and_builds_are_left_alone(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pack_linears(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)) == 0

    def gone(*args: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(packed_linear, "PackedLinear", gone)
    assert not packed_linear._works()
    assert pack_linears(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)) == 0
