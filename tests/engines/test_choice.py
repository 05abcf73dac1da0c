"""What ``auto`` means, by the facts it is decided on."""

from __future__ import annotations

import pytest

from selfalign.config import validate_config
from selfalign.engines.choice import choose
from selfalign.engines.vllm_install import Machine
from selfalign.stages.engine import concrete, own_engine, window


@pytest.mark.parametrize(
    ("machine", "engine", "why"),
    [
        (Machine(None, True), "transformers", "not installed"),
        (Machine("cuda", True), "vllm", "there is a GPU"),
        (Machine("cpu", True), "transformers", "built for CPUs"),
        (Machine("cuda", False), "transformers", "on a CPU"),
        (Machine("cpu", False), "transformers", "on a CPU, where vllm was not found to be faster"),
    ],
)
def test_the_choice_and_its_reason(machine: Machine, engine: str, why: str) -> None:
    found = choose(machine)
    assert found.engine == engine
    assert why in found.why


def test_the_chosen_engine_has_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"id": "auto", "vllm": {"max_rows": 7, "max_model_len": 900}, "transformers": {"max_rows": 5}}
    config = validate_config({"name": "x", "generate": {"engine": engine}}, "test")
    for machine, expected in ((Machine("cuda", True), ("vllm", 7)), (Machine(None, False), ("transformers", 5))):
        monkeypatch.setattr("selfalign.engines.auto.this_machine", lambda device, found=machine: found)
        _, chosen = concrete(config.generate.engine, config)
        assert (chosen.id, chosen.max_rows) == expected
        assert window(config, 2048) == {"vllm": 900, "transformers": 2048}[expected[0]]


def test_what_the_config_names_is_taken() -> None:
    config = validate_config({"name": "x", "generate": {"engine": {"id": "vllm", "max_rows": 3}}}, "test")
    choice, settings = concrete(config.generate.engine, config)
    assert (choice.engine, choice.why, settings.max_rows) == ("vllm", "the config names it", 3)
    assert own_engine(config.generate.engine) is config.generate.engine
