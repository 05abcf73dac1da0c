"""The average of models: its arithmetic, tensor by tensor; the same bits on every way to it; whole or not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfalign.errors import ModelError, WeightsMismatch
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.training import average
from selfalign.training.average import Source, build, read_manifest
from selfalign.training.policy import load_model, load_tokenizer
from tests.tiny_model import make_tiny_model

EMA = 0.7


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """M_0 to M_3."""
    folder = tmp_path_factory.mktemp("models")
    return [make_tiny_model(folder / f"m{seed}", seed=seed) for seed in range(4)]


def source(folder: Path) -> Source:
    return Source(folder, hash_weights(folder))


def made(target: Path, below: Path, added: list[Path], models: list[Path], ema: float = EMA) -> str:
    return build(source(below), [source(one) for one in added], ema, [hash_weights(one) for one in models], target)


def test_every_tensor_is_the_moving_average(models: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "average"
    assert made(target, models[0], models[1:], models) == hash_weights(target)
    found = load_file(target / "model.safetensors")
    weights = [load_file(folder / "model.safetensors") for folder in models]
    assert found.keys() == weights[0].keys()
    for name, value in found.items():
        # Expanded: what each model's share is, in float64.
        shares = [EMA**3, (1 - EMA) * EMA**2, (1 - EMA) * EMA, 1 - EMA]
        expected = sum(share * one[name].double() for share, one in zip(shares, weights, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    name = "model.norm.weight"
    step_by_step = weights[0][name]
    for one in weights[1:]:
        step_by_step = step_by_step * EMA + one[name] * (1 - EMA)
    assert torch.equal(found[name], step_by_step), "to the last bit"


def test_it_is_a_model_folder_like_any_other(models: list[Path], tmp_path: Path) -> None:
    made(tmp_path / "average", models[0], models[1:2], models[:2])
    assert load_model(tmp_path / "average").num_parameters() == load_model(models[0]).num_parameters()
    assert hash_tokenizer(tmp_path / "average") == hash_tokenizer(models[0])
    assert load_tokenizer(tmp_path / "average").pad_token


def test_going_on_from_an_earlier_average_gives_the_same_bits(models: list[Path], tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", models[0], models[1:], models)
    made(tmp_path / "earlier", models[0], models[1:3], models[:3])
    assert made(tmp_path / "later", tmp_path / "earlier", models[3:], models) == whole
    assert made(tmp_path / "other", models[0], models[1:], models, ema=0.5) != whole


def test_small_changes_of_16_bit_models_are_not_rounded_away(models: list[Path], tmp_path: Path) -> None:
    """1 + 2^-8 has no place in bfloat16 beside 1, and its mean with 1 even less."""
    for number, value in enumerate((1.0, 1.0078125)):
        folder = tmp_path / f"m{number}"
        shutil.copytree(models[0], folder)
        weights = {
            name: torch.full_like(t, value).bfloat16() for name, t in load_file(folder / "model.safetensors").items()
        }
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    below, later = tmp_path / "m0", tmp_path / "m1"
    made(tmp_path / "first", below, [later], [below, later], ema=0.9)
    made(tmp_path / "second", tmp_path / "first", [later], [below, later, later], ema=0.9)
    for folder, change in (("first", 0.1), ("second", 0.19)):
        for value in load_file(tmp_path / folder / "model.safetensors").values():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value - 1.0, torch.full_like(value, change * 0.0078125), rtol=1e-4, atol=0)


def test_what_is_there_is_not_made_again_and_what_is_damaged_is(models: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "average"
    whole = made(target, models[0], models[1:2], models[:2])
    file = target / "model.safetensors"
    before = file.stat().st_mtime_ns
    assert build(Source(target, whole), [], EMA, [hash_weights(one) for one in models[:2]], target) == whole
    assert file.stat().st_mtime_ns == before
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsMismatch, match="run again"):
        build(Source(target, whole), [], EMA, [hash_weights(one) for one in models[:2]], target)
    assert made(target, models[0], models[1:2], models[:2]) == whole == hash_weights(target)
    # A kill before the folder was whole: nothing but what is written aside.
    file.unlink()
    (target / average.MANIFEST).unlink()
    (tmp_path / ".average.partial").mkdir()
    (tmp_path / ".average.partial" / "model.safetensors").write_bytes(b"half")
    assert made(target, models[0], models[1:2], models[:2]) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["average"]


def test_the_manifest_says_of_what_it_is(models: list[Path], tmp_path: Path) -> None:
    whole = made(tmp_path / "average", models[0], models[1:2], models[:2])
    hashes = tuple(hash_weights(one) for one in models[:2])
    found = read_manifest(tmp_path / "average")
    assert found is not None
    assert (found.identity, found.ema, found.models, found.weights_hash) == (
        average.identity(EMA, hashes), EMA, hashes, whole,
    )  # fmt: skip
    (tmp_path / "average" / average.MANIFEST).write_text(json.dumps({"identity": "x"}))
    assert read_manifest(tmp_path / "average") is None


def test_sources_must_be_what_they_are_said_to_be(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="changed since this round began"):
        build(source(models[0]), [Source(models[1], "other")], EMA, ["a", "b"], tmp_path / "average")
    wider = make_tiny_model(tmp_path / "wider", width=64)
    with pytest.raises(ModelError, match="of another shape"):
        made(tmp_path / "average", models[0], [wider], [models[0], wider])
    assert not (tmp_path / "average").exists()


def test_formats_that_cannot_be_averaged_are_refused_by_the_headers(models: list[Path], tmp_path: Path) -> None:
    average.check_formats(models[0])
    assert average.size(models[0]) == sum(4 * t.numel() for t in load_file(models[0] / "model.safetensors").values())
    save_file({"scale": torch.ones(3, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"scale is stored as U8.*train\.reference"):
        average.check_formats(tmp_path)
