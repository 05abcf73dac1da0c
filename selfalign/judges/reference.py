"""Reference-guided scoring: the rubric also shows an answer that is known to be good.

MT-Bench (arXiv 2306.05685), section 3.4: with a reference a judge fails less often on mathematics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.errors import BadInput, PromptFileError
from selfalign.identity import content_id
from selfalign.judges.rows import in_full
from selfalign.judges.rubric import POINTWISE, load_rubric, shown
from selfalign.judges.rubric_logits import LogitsReader
from selfalign.judges.rubric_votes import VotesReader
from selfalign.protocols import JudgeContext
from selfalign.types import JudgeItem, Judgement, Message, SamplingParams

VARIABLES = (*POINTWISE, "reference")


class ReferenceJudge:
    """As rubric_logits or rubric_votes, with a model answer in the rubric.

    A prompt without a reference gives no row, as the judge does not apply to it; ``weighted`` then leaves it out.
    """

    name = "reference"

    class Config(Settings):
        id: Literal["reference"] = "reference"
        references: str = Field(
            min_length=1,
            description='JSONL of {"prompt": ..., "reference": ...}, such as a gold file; other keys are ignored',
        )
        rubric: str = Field("judges/reference", min_length=1, description="name in prompts/, or path of a .j2 file")
        mode: Literal["logits", "text"] = Field("logits", description="read from logits, or sampled and parsed")
        min_mass: float = Field(0.0, ge=0, le=1, description="logits: less probability on the choices is a parse_error")
        votes: int = Field(3, ge=1, description="text: answers sampled for each candidate")
        temperature: float = Field(0.7, ge=0, description="0 is greedy")
        top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
        max_tokens: int = Field(256, ge=1, description="of a judgement")
        min_valid_votes: int = Field(2, ge=1, description="text: a candidate with fewer valid votes has no score")

        @model_validator(mode="after")
        def _can_be_reached(self) -> ReferenceJudge.Config:
            if self.min_valid_votes > self.votes:
                raise ValueError(f"min_valid_votes {self.min_valid_votes} exceeds votes {self.votes}; lower it")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric or the references cannot be used."""
        self.config = config
        self._references = read_references(Path(config.references))
        rubric = load_rubric(context, config.rubric, VARIABLES)
        self._rubric = rubric
        self._reader: LogitsReader | VotesReader
        if config.mode == "logits":
            self._reader = LogitsReader(context, rubric, config.min_mass, self._further)
            self.min_valid_votes, self.written = 1, 0  # a score read from logits has no text
            used = {"mode", "min_mass"}
        else:
            params = SamplingParams(config.temperature, config.top_p, 0, config.max_tokens)
            self._reader = VotesReader(context, rubric, config.votes, params, self._further)
            self.min_valid_votes, self.written = config.min_valid_votes, config.votes
            used = {"mode", "votes", "temperature", "top_p", "max_tokens", "min_valid_votes"}
        self.score_range = self._reader.score_range
        settings = config.model_dump(mode="json", include=used)
        self.judge_hash = content_id("judge", self.name, rubric.hash, settings, sorted(self._references.items()))

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge. Candidates that it does not apply to go along with the first batch."""
        return in_full(items, self._applies, lambda own: self._reader.plan(self, own))

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        return self._reader.rows(self, [item for item in items if self._applies(item)])

    def asks(self, item: JudgeItem) -> tuple[Message, ...]:
        """See protocols.WritingJudge, for items that have a reference."""
        return shown(self._rubric, item, self._further(item))

    def _applies(self, item: JudgeItem) -> bool:
        return item.prompt.text in self._references

    def _further(self, item: JudgeItem) -> Mapping[str, str]:
        return {"reference": self._references[item.prompt.text]}


def read_references(path: Path) -> dict[str, str]:
    """Prompt text -> reference, of the lines that have one.

    Raises:
        PromptFileError: the file cannot be read, a line is no such object, a prompt has two references, or
            there is none at all.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"{path}: references cannot be read as UTF-8 text: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            pair = _reference(line) if line.strip() else None
            if pair is not None and found.setdefault(*pair) != pair[1]:
                raise BadInput("its prompt has another reference on a line before; keep one of them")
        except BadInput as error:
            raise PromptFileError(f"{path}:{number}: {error}") from None
    if not found:
        raise PromptFileError(f'{path}: has no references; write {{"prompt": "...", "reference": "..."}} lines')
    return found


def _reference(line: str) -> tuple[str, str] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}; write one object a line") from None
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
        raise BadInput('needs a text "prompt", and a text "reference" where there is one')
    reference = data.get("reference", "")
    if not isinstance(reference, str):
        raise BadInput("reference must be text")
    return (data["prompt"], reference) if reference.strip() else None
