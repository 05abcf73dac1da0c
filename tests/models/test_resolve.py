from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selfalign.errors import ModelError
from selfalign.models import resolve
from selfalign.models.resolve import describe_model, resolve_model


def test_a_complete_folder_is_itself(tiny_model: Path) -> None:
    assert resolve_model(str(tiny_model)) == tiny_model


@pytest.mark.parametrize("name", ["embedded", "smollm2-135m-instruct"])
def test_the_embedded_names_are_fetched(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "fetch", lambda progress: tmp_path / str(progress))
    assert resolve_model(name, progress=False) == tmp_path / "False"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no config.json"),
        (["config.json"], r"has no \*.safetensors weights; save"),
        (["config.json", "pytorch_model.bin"], r"only pytorch_model.bin: pickled weights can run code"),
        (["config.json", "model.safetensors"], "has no tokenizer files"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=message) as caught:
        resolve_model(str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./models/mine", "~/no-such-model", "/no/such/model", "tests/mine"])
def test_a_path_that_does_not_exist_is_not_asked_of_a_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(resolve, "_from_hub", lambda name: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match=r"no such folder .looked for /.*embedded model"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["some-owner/some-model", "not a name!"])
def test_a_hub_that_cannot_be_reached_is_one_line(name: str, tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads HF_HUB_OFFLINE when it is imported."""
    code = (
        "import sys\nfrom selfalign.models.resolve import resolve_model\nfrom selfalign.errors import ModelError\n"
        "try: resolve_model(sys.argv[1])\nexcept ModelError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"model '{name}': ") and line.endswith("embedded model ('smollm2-135m-instruct')")
    assert ("HF_HUB_OFFLINE" in line) == ("/" in name)


def test_a_folder_is_described_without_loading_it(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    info = describe_model(tiny_model)
    n = sum(p.numel() for p in model.parameters())
    assert (info.parameters, info.bytes, info.dtype) == (n, 4 * n, "float32")
    assert (info.context_length, info.n_layers, info.hidden_size, info.vocab_size) == (1024, 2, 32, 259)
    model.to(torch.bfloat16).save_pretrained(folder := tiny_model.parent / "half")
    assert describe_model(folder).dtype == "bfloat16" and describe_model(folder).bytes == 2 * n


def test_a_damaged_folder_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json"):
        describe_model(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"config.json: cannot be read"):
        describe_model(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 3}')
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        describe_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelError, match=r"not a readable safetensors file"):
        describe_model(tmp_path)
