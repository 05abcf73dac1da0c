"""``generate.engine: auto``: vLLM on a GPU where it is installed, transformers elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.engines.choice import Choice, choose
from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.engines.vllm_engine import VllmEngine
from selfalign.engines.vllm_install import this_machine


class AutoEngine:
    """Not an engine itself: stages ask :meth:`choose` and load the one it names."""

    name = "auto"

    class Config(Settings):
        id: Literal["auto"] = "auto"
        transformers: TransformersEngine.Config = Field(
            default_factory=TransformersEngine.Config, description="its settings, where it is chosen"
        )
        vllm: VllmEngine.Config = Field(
            default_factory=VllmEngine.Config, description="its settings, where it is chosen"
        )

    @staticmethod
    def choose(config: Config, device: str) -> tuple[Choice, Settings]:
        """The choice for this machine, and the settings of the chosen engine."""
        choice = choose(this_machine(device))
        return choice, (config.vllm if choice.engine == "vllm" else config.transformers)

    def __new__(cls, config: Config, model_path: Path, *, device: str = "auto", **options: Any) -> Any:
        """The chosen engine, loaded; for notebooks."""
        choice, settings = cls.choose(config, device)
        engine: Any = {"vllm": VllmEngine, "transformers": TransformersEngine}[choice.engine]
        return engine(settings, model_path, device=device, **options)
