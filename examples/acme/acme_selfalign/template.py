"""The transformers engine with a chat template from a file instead of the model's own.

Everything that a run reads goes through ``encode_prompt``: sampling, judging and training see the same tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import ConfigError
from selfalign.identity import content_id


class TemplateEngine(TransformersEngine):
    name = "acme_template"

    class Config(TransformersEngine.Config):
        id: Literal["acme_template"] = "acme_template"  # type: ignore[assignment]
        template: str = Field(min_length=1, description="a Jinja file, as tokenizers have them in chat_template.jinja")

    def __init__(self, config: Config, model_path: Path, **options: Any) -> None:
        super().__init__(config, model_path, **options)
        self._tokenizer.chat_template = Path(config.template).read_text(encoding="utf-8")
        # Another template makes other prompts of the same messages: whatever depends on the tokenizer depends on it.
        self.tokenizer_hash = content_id("tokenizer", self.tokenizer_hash, self._tokenizer.chat_template)

    @staticmethod
    def check(config: Config, device: str) -> None:
        """Before a run's first work; raises ConfigError."""
        if not Path(config.template).is_file():
            raise ConfigError(f"generate.engine.template: no file {config.template}; name a Jinja chat template")
