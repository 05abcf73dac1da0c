"""QLoRA, where bitsandbytes is installed; it computes on CPUs, too, so that no GPU is needed."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest

from selfalign.identity import hash_weights
from selfalign.training import adapters
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.policy import load_model, load_quantised
from selfalign.training.settings import QuantiseSettings
from tests.tiny_model import make_tiny_model
from tests.training.test_wrapping import SEQUENCES, train

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install 'selfalign[qlora]'"
)


def test_an_adapter_on_four_bit_weights_is_merged_into_the_whole_ones(tmp_path: Path) -> None:
    parent = make_tiny_model(tmp_path / "model", width=64)  # blocks of 64 weights share a scale
    whole = sequence_log_probs(load_model(parent), SEQUENCES)
    quantised = sequence_log_probs(load_quantised(parent, QuantiseSettings()), SEQUENCES)
    assert max(abs(a - b) for a, b in zip(whole, quantised, strict=True)) > 1e-2, "four bits are not the weights"

    done = train(tmp_path / "work", parent, method="qlora", lora={"r": 4})
    # The reference is held in four bits, too, or the loss would not be ln 2.
    assert done.result.metrics["guard_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert done.result.metrics["guard_logp_gap"] < 1e-3
    assert adapters.rebuilt_hash(parent, done.output) == hash_weights(done.output) != hash_weights(parent)
    config = json.loads((done.output / "config.json").read_text())
    assert "quantization_config" not in config, "the checkpoint is a plain model"
    # Merged into whole weights, the adapter moves answers as it did on four bits, as far as four bits tell.
    merged = sequence_log_probs(load_model(done.output), SEQUENCES)
    moved = [after - before for after, before in zip(merged, whole, strict=True)]
    learnt = [after - before for after, before in zip(done.in_place, quantised, strict=True)]
    assert sum(a * b for a, b in zip(moved, learnt, strict=True)) > 0.5 * sum(b * b for b in learnt)
