"""A judge without a model: the shorter an answer's sentences, the better."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.judges.rows import plain_batches, row
from selfalign.protocols import JudgeContext
from selfalign.types import JudgeItem, Judgement

_END = re.compile(r"[.!?。！？]+")


class SentencesJudge:
    name = "acme_sentences"
    score_range = (0.0, 1.0)
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["acme_sentences"] = "acme_sentences"
        words: int = Field(12, ge=1, description="words a sentence that still get half of the score")

    def __init__(self, config: Config, context: JudgeContext) -> None:
        self.config = config
        self._context = context
        # Whatever a score depends on: other settings are another judge, whose votes are never mixed with these.
        self.judge_hash = content_id("judge", self.name, config.words)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return False

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        return plain_batches(items)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge. An answer without a word cannot be read: that is an outcome, not a zero."""
        return [self._row(item) for item in items]

    def _row(self, item: JudgeItem) -> Judgement:
        sentences = [part.split() for part in _END.split(item.candidate.text) if part.strip()]
        if not sentences:
            return row(self, self._context.round, item, "refused", detail={"sentences": 0})
        mean = sum(map(len, sentences)) / len(sentences)
        score = self.config.words / (self.config.words + mean)
        return row(self, self._context.round, item, "ok", score=score, detail={"words_a_sentence": mean})
