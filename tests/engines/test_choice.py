"""What ``auto`` means, by the facts it is decided on."""

from __future__ import annotations

import pytest

from selfalign.config import validate_config
from selfalign.engines.choice import choose
from selfalign.engines.vllm_install import Machine
from selfalign.stages.engine import concrete, own_engine, window

SMALL, LARGE = 135_000_000, 7_000_000_000


@pytest.mark.parametrize(
    ("machine", "parameters", "tokens", "engine", "why"),
    [
        (Machine(None, True), LARGE, 10**9, "transformers", "not installed"),
        (Machine("cuda", True), SMALL, 10, "vllm", "there is a GPU"),
        (Machine("cpu", True), LARGE, 10**9, "transformers", "built for CPUs"),
        (Machine("cuda", False), LARGE, 10**9, "transformers", "built for CUDA"),
        (Machine("cpu", False), SMALL, 64_999, "transformers", "pays for its start-up from 65,000"),
        (Machine("cpu", False), SMALL, 65_001, "vllm", "65,001 tokens, enough"),
        # A larger model spends more time on every token.
        (Machine("cpu", False), LARGE, 5_000, "vllm", "5,000 tokens, enough"),
    ],
)
def test_the_choice_and_its_reason(machine: Machine, parameters: int, tokens: int, engine: str, why: str) -> None:
    found = choose(machine, parameters, tokens)
    assert found.engine == engine
    assert why in found.why


def test_the_chosen_engine_has_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"id": "auto", "vllm": {"max_rows": 7, "max_model_len": 900}, "transformers": {"max_rows": 5}}
    settings = {"per_round": 100}, {"candidates": 4, "max_tokens": 200, "engine": engine}
    config = validate_config({"name": "x", "prompts": settings[0], "generate": settings[1]}, "test")
    for machine, expected in ((Machine("cpu", False), ("vllm", 7)), (Machine(None, False), ("transformers", 5))):
        monkeypatch.setattr("selfalign.engines.auto.this_machine", lambda device, found=machine: found)
        _, chosen = concrete(config.generate.engine, config, SMALL)
        assert (chosen.id, chosen.max_rows) == expected
        assert window(config, SMALL, 2048) == {"vllm": 900, "transformers": 2048}[expected[0]]


def test_what_the_config_names_is_taken() -> None:
    config = validate_config({"name": "x", "generate": {"engine": {"id": "vllm", "max_rows": 3}}}, "test")
    choice, settings = concrete(config.generate.engine, config, SMALL)
    assert (choice.engine, choice.why, settings.max_rows) == ("vllm", "the config names it", 3)
    assert own_engine(config.generate.engine) is config.generate.engine
