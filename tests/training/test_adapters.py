from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfalign.errors import ModelError
from selfalign.identity import hash_weights
from selfalign.training import adapters
from selfalign.training.pairwise import DPOTrainer
from tests.tiny_model import make_tiny_model
from tests.training.examples import job, pairs


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint made by the real trainer with an adapter on every linear layer."""
    folder = tmp_path_factory.mktemp("lora")
    config = DPOTrainer.Config(method="lora", learning_rate=1e-2, batch_size=4, micro_batch_size=2)
    work = job(folder, tiny_model, pairs=pairs())
    DPOTrainer(config).train(work)
    return work.output


def test_parent_and_adapter_give_the_same_bits_again(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    assert adapters.rebuilt_hash(tiny_model, trained) == hash_weights(trained)
    adapters.rebuild(tiny_model, trained, tmp_path / "model.safetensors")
    assert hash_weights(tmp_path) == hash_weights(trained) != hash_weights(tiny_model)


def test_the_adapter_is_pefts_own_and_small(tiny_model: Path, trained: Path) -> None:
    from peft import PeftModel

    from selfalign.training.policy import load_model

    model = PeftModel.from_pretrained(load_model(tiny_model), trained / adapters.FOLDER)
    assert model.peft_config["default"].r == 16


def test_another_parent_gives_other_weights(trained: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    assert adapters.rebuilt_hash(other, trained) != hash_weights(trained)


def test_a_folder_without_an_adapter_is_refused(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    assert adapters.is_there(trained)
    bare = shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns(adapters.FOLDER))
    assert not adapters.is_there(bare)
    with pytest.raises(ModelError, match="no adapter"):
        adapters.rebuilt_hash(tiny_model, bare)
