from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.errors import ModelError
from selfalign.identity import canonical, content_id, derive_seed, hash_weights
from tests.tiny_model import make_tiny_model

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_canonical_is_json_that_survives_reordering(value: object) -> None:
    assert json.loads(canonical(value)) == value
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_canonical_refuses_what_has_no_one_form() -> None:
    with pytest.raises(ValueError):
        canonical(float("nan"))
    with pytest.raises(TypeError):
        canonical({1, 2})


def test_ids_are_separate_by_kind_and_by_boundary() -> None:
    assert content_id("a", "b") != content_id("b", "a")
    assert content_id("x", "ab", "c") != content_id("x", "a", "bc")


@given(st.integers(0, 2**63 - 1), st.integers(0, 100), st.text())
def test_seeds_fit_a_signed_64_bit_column(run_seed: int, round: int, prompt: str) -> None:
    assert 0 <= derive_seed(run_seed, round, prompt) < 2**63


def test_weights_are_hashed_by_content_not_by_file(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    first = make_tiny_model(tmp_path / "a", seed=1)
    model = AutoModelForCausalLM.from_pretrained(first)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert hash_weights(tmp_path / "sharded") == hash_weights(first)
    assert hash_weights(make_tiny_model(tmp_path / "b", seed=2)) != hash_weights(first)
    assert hash_weights(make_tiny_model(tmp_path / "c", seed=1)) == hash_weights(first)


def test_one_flipped_byte_changes_the_hash(tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert hash_weights(tmp_path / "copy") != hash_weights(tiny_model)


def test_cut_or_missing_weights_are_named(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        hash_weights(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut short"):
        hash_weights(tmp_path / "copy")
    weights.write_bytes(b"abc")
    with pytest.raises(ModelError, match="not a readable"):
        hash_weights(tmp_path / "copy")
