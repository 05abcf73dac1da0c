"""Figures of the answers' texts: how long, how varied, how often cut or empty."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from selfalign.config import Settings
from selfalign.evaluation.statistics import Interval, mean_interval, wilson
from selfalign.identity import canonical
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation, JudgeItem

#: A word, or one Chinese, Japanese or Korean character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+", re.UNICODE)
#: distinct-n falls with the amount of text; this many words make rounds of different length comparable.
_FIXED_WORDS = 2_000


class Length:
    """Mean length in tokens, and the share of answers cut at max_tokens."""

    name = "length"

    class Config(Settings):
        id: Literal["length"] = "length"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        items = data.candidates[data.round]
        if not items:
            return []
        before = [item.candidate.n_tokens for item in data.candidates[0]]
        detail = {"m0": sum(before) / len(before) if before else None}
        cut = sum(item.candidate.finish_reason == "length" for item in items)
        return [
            _row(data, "mean_length_tokens", mean_interval(_by_prompt(items)), detail),
            _row(data, "truncated_share", wilson(cut, len(items)), {}),
        ]


class Diversity:
    """distinct-n: distinct n-grams over all n-grams of all answers (Li et al., arXiv 1510.03055)."""

    name = "diversity"

    class Config(Settings):
        id: Literal["diversity"] = "diversity"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        items = sorted(data.candidates[data.round], key=lambda item: (item.prompt.prompt_id, item.candidate.sample_idx))
        if not items:
            return []
        texts = [words(item.candidate.text) for item in items]
        rows = [_row(data, f"distinct_{n}", _plain(distinct(texts, n), len(items)), {}) for n in (1, 2, 3)]
        rows.append(_row(data, "distinct_2_fixed", _plain(distinct(first_words(texts, _FIXED_WORDS), 2), len(items)), {}))
        empty = sum(not item.candidate.text.strip() for item in items)
        return [*rows, _row(data, "empty_share", wilson(empty, len(items)), {})]


def words(text: str) -> list[str]:
    """Lowercased words; CJK characters are words of their own."""
    return [word.lower() for word in _WORD.findall(text)]


def distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Distinct n-grams / n-grams; None where there is no n-gram."""
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def first_words(texts: Sequence[Sequence[str]], limit: int) -> list[Sequence[str]]:
    """The first ``limit`` words of the texts together."""
    kept: list[Sequence[str]] = []
    for text in texts:
        kept.append(text[:limit])
        limit -= len(kept[-1])
    return kept


def _by_prompt(items: Sequence[JudgeItem]) -> list[float]:
    lengths: dict[str, list[int]] = {}
    for item in items:
        lengths.setdefault(item.prompt.prompt_id, []).append(item.candidate.n_tokens)
    return [sum(values) / len(values) for values in lengths.values()]


def _plain(value: float | None, n: int) -> Interval:
    return Interval(value, None, None, n)


def _row(data: EvaluationInput, metric: str, figure: Interval, detail: dict[str, Any]) -> Evaluation:
    return Evaluation(
        data.run, data.round, metric, "held_out", figure.value, figure.low, figure.high, figure.n, canonical(detail)
    )
