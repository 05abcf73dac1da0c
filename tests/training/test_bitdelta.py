from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfalign.errors import ModelError
from selfalign.identity import hash_weights
from selfalign.training import bitdelta, tensors
from tests.tiny_model import make_tiny_model


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model after a step of noise, its embeddings and one norm included; one matrix stays."""
    folder = shutil.copytree(tiny_model, tmp_path / "trained")
    generator = torch.Generator().manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if "layers.1.mlp.down_proj" not in name:
            weights[name] += 0.01 * torch.randn(weights[name].shape, generator=generator)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def compressed(base: Path, trained: Path, folder: Path, **options: bool) -> tuple[Path, bitdelta.Report]:
    folder.mkdir()
    return folder / bitdelta.FILE, bitdelta.compress(base, trained, folder / bitdelta.FILE, **options)


def restored(base: Path, file: Path, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    bitdelta.restore(base, file, folder / "model.safetensors")
    return dict(load_file(folder / "model.safetensors"))


def test_a_matrix_is_restored_as_base_plus_signed_mean(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    file, _ = compressed(tiny_model, trained, tmp_path / "small")
    back = restored(tiny_model, file, tmp_path / "back")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(trained / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    delta = after[name] - before[name]
    expected = before[name] + torch.where(delta >= 0, 1.0, -1.0) * delta.abs().double().mean().float()
    assert torch.equal(back[name], expected)


def test_norms_and_embeddings_are_exact_and_unchanged_tensors_cost_nothing(
    tiny_model: Path, trained: Path, tmp_path: Path
) -> None:
    file, _ = compressed(tiny_model, trained, tmp_path / "small")
    back, after = restored(tiny_model, file, tmp_path / "back"), load_file(trained / "model.safetensors")
    exact = [name for name in after if "norm" in name or "embed" in name or "layers.1.mlp.down_proj" in name]
    assert len(exact) == 7
    assert all(torch.equal(back[name], after[name]) for name in exact)
    assert not any("layers.1.mlp.down_proj" in name for name in load_file(file))


def test_the_report_says_what_was_lost_and_which_weights_come_back(
    tiny_model: Path, trained: Path, tmp_path: Path
) -> None:
    file, report = compressed(tiny_model, trained, tmp_path / "small")
    back, after = restored(tiny_model, file, tmp_path / "back"), load_file(trained / "model.safetensors")
    lost = sum(float(((back[n] - after[n]).double() ** 2).sum()) for n in after)
    whole = sum(float((after[n].double() ** 2).sum()) for n in after)
    assert report.weight_error == pytest.approx((lost / whole) ** 0.5, rel=1e-3)
    assert 0.3 < report.delta_error < 0.7, "for a normal delta sqrt(1 - 2/pi) = 0.60, less what is kept exactly"
    assert report.restored_hash == hash_weights(tmp_path / "back") != hash_weights(trained)
    assert report.n_bytes < report.n_bytes_before / 2
    _, smaller = compressed(tiny_model, trained, tmp_path / "smaller", embeddings=True)
    assert smaller.n_bytes < report.n_bytes / 2
    assert smaller.delta_error > report.delta_error


def test_bfloat16_stays_bfloat16(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    folders = []
    for source in (tiny_model, trained):
        folder = tmp_path / f"bf16-{source.name}"
        folder.mkdir()
        halves = {name: weight.bfloat16() for name, weight in load_file(source / "model.safetensors").items()}
        save_file(halves, folder / "model.safetensors", {"format": "pt"})
        folders.append(folder)
    file, report = compressed(folders[0], folders[1], tmp_path / "small")
    back = restored(folders[0], file, tmp_path / "back")
    assert {weight.dtype for weight in back.values()} == {torch.bfloat16}
    assert hash_weights(tmp_path / "back") == report.restored_hash


def test_another_architecture_is_refused(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    wider = make_tiny_model(tmp_path / "wider", width=64)
    with pytest.raises(ModelError, match="not the same architecture"):
        compressed(wider, trained, tmp_path / "small")


def test_the_streamed_hash_is_that_of_the_folder(trained: Path, tmp_path: Path) -> None:
    with tensors.opened(trained) as weights:
        assert tensors.content_hash(weights.specs, weights.__getitem__) == hash_weights(trained)
        (tmp_path / "copy").mkdir()
        tensors.write(tmp_path / "copy" / "model.safetensors", weights.specs, weights.__getitem__, {})
    assert hash_weights(tmp_path / "copy") == hash_weights(trained)
    assert load_file(tmp_path / "copy" / "model.safetensors").keys() == weights.specs.keys()
