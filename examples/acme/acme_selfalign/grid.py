"""Prompts from a sentence with blanks: every combination of what may stand in them."""

from __future__ import annotations

import itertools
import string
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.types import Prompt


class GridSource:
    class Config(Settings):
        id: Literal["acme_grid"] = "acme_grid"
        text: str = Field(min_length=1, description="with blanks, e.g. 'Explain {thing} to {whom}.'")
        fill: dict[str, list[str]] = Field(description="what may stand in each blank")
        language: str = Field("en", description="of all of them")

        @model_validator(mode="after")
        def _filled(self) -> GridSource.Config:
            blanks = {name for _, name, _, _ in string.Formatter().parse(self.text) if name}
            if blanks != self.fill.keys():
                raise ValueError(f"fill: the blanks of the text are {sorted(blanks)}, filled are {sorted(self.fill)}")
            return self

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config  # ``base``: where relative paths start; this source reads no file

    def prompts(self) -> list[Prompt]:
        """See protocols.PromptSource: the same rows in the same order, whenever it is called."""
        names, choices = zip(*self.config.fill.items(), strict=True)
        texts = [self.config.text.format(**dict(zip(names, row, strict=True))) for row in itertools.product(*choices)]
        return [
            Prompt(
                prompt_id=content_id("prompt", text, (), "[]"), round=0, split="train", text=text,
                language=self.config.language, category="grid", origin="acme_grid", parent_id=None, rouge_max=None,
                instruction_id_list=(), kwargs="[]",
            )
            for text in texts
        ]  # fmt: skip
