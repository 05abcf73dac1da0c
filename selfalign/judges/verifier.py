"""Scores a candidate by the share of its prompt's constraints that a program finds followed.

IFEval (arXiv 2311.07911): strict is the text as it is, loose the best of eight variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfalign import constraints
from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.judges.rows import plain_batches, row
from selfalign.protocols import JudgeContext
from selfalign.types import JudgeItem, Judgement


class VerifierJudge:
    """One row a candidate; a prompt without constraints gives none, as there is nothing to verify."""

    name = "verifier"
    score_range = (0.0, 1.0)
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["verifier"] = "verifier"
        mode: Literal["fraction", "all"] = Field(
            "fraction", description="score: share of constraints strictly followed, or 1 only if all are"
        )

    def __init__(self, config: Config, context: JudgeContext) -> None:
        self.config = config
        self._context = context
        self.judge_hash = content_id("judge", self.name, config.mode, constraints.checker_version())

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return False

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        return plain_batches(items)

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge."""
        return [self._row(item) for item in items if item.prompt.instruction_id_list]

    def _row(self, item: JudgeItem) -> Judgement:
        prompt = item.prompt
        ids = prompt.instruction_id_list
        result = constraints.check(item.candidate.text, ids, prompt.kwargs, prompt.text)
        share = sum(result.strict) / len(ids)
        score = share if self.config.mode == "fraction" else float(share == 1)
        detail = {"ids": list(ids), "strict": list(result.strict), "loose": list(result.loose)}
        if result.errors:
            detail["errors"] = dict(result.errors)
        return row(self, self._context.round, item, "ok", score=score, detail=detail)
