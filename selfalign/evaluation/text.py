"""Figures of the answers' texts: how long, how varied, how often cut or empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Literal

from selfalign.config import Settings
from selfalign.evaluation.rows import point, row
from selfalign.evaluation.statistics import (
    Interval,
    cluster_mean_interval,
    mean_interval,
    paired_difference,
    share_interval,
)
from selfalign.protocols import EvaluationInput
from selfalign.types import Candidate, Evaluation, JudgeItem

#: Kana, Han and Hangul, which are written without spaces or counted by the syllable.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_FIXED_WORDS = 2_000


class Length:
    """Mean length in tokens, paired with M0's, its slope over rounds, and the share of answers cut at max_tokens."""

    name = "length"

    class Config(Settings):
        id: Literal["length"] = "length"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A round without answers gives no row."""
        items = data.candidates.get(data.round, ())
        if not items:
            return []
        lengths = _by_prompt(items, lambda answer: answer.n_tokens)
        cut = _by_prompt(items, lambda answer: answer.finish_reason == "length")
        return [
            row(data, "mean_length_tokens", cluster_mean_interval(lengths), _against_m0(data, lengths)),
            row(data, "truncated_share", share_interval(cut)),
            *([row(data, "length_slope", length_slope(data))] if data.round else []),
        ]


class Diversity:
    """distinct-n: distinct n-grams over all n-grams of all answers (Li et al., arXiv 1510.03055).

    It falls as text grows, so that a model which only talks more looks less varied. ``distinct_2_fixed``
    is over the first 2,000 words, answers in order of prompt id and sample; its detail says how many
    words there were, as rounds compare only where all had enough.
    """

    name = "diversity"

    class Config(Settings):
        id: Literal["diversity"] = "diversity"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A round without answers gives no row."""
        items = sorted(
            data.candidates.get(data.round, ()), key=lambda item: (item.prompt.prompt_id, item.candidate.sample_idx)
        )
        if not items:
            return []
        texts = [words(item.candidate.text) for item in items]
        fixed = first_words(texts, _FIXED_WORDS)
        empty = _by_prompt(items, lambda answer: not answer.text.strip())
        return [
            *(row(data, f"distinct_{n}", point(distinct(texts, n), len(items))) for n in (1, 2, 3)),
            row(data, "distinct_2_fixed", point(distinct(fixed, 2), len(items)), {"words": sum(map(len, fixed))}),
            row(data, "empty_share", share_interval(empty)),
        ]


def words(text: str) -> list[str]:
    """Lowercased runs of letters and digits; a Chinese, Japanese or Korean character is a word of its own."""
    return [word.lower() for word in _WORD.findall(text)]


def distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Distinct n-grams over n-grams, none across two texts; None where there is no n-gram."""
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def first_words(texts: Sequence[Sequence[str]], limit: int) -> list[Sequence[str]]:
    """The first ``limit`` words of the texts together; the last text is cut."""
    kept: list[Sequence[str]] = []
    for text in texts:
        kept.append(text[:limit])
        limit -= len(kept[-1])
    return kept


def _against_m0(data: EvaluationInput, lengths: dict[str, list[float]]) -> dict[str, object]:
    if not data.round:
        return {}
    before = _by_prompt(data.candidates.get(0, ()), lambda answer: answer.n_tokens)
    common = sorted(before.keys() & lengths.keys())
    compared = paired_difference([_mean(before[p]) for p in common], [_mean(lengths[p]) for p in common], data.seed)
    return {
        "delta_vs_m0": {**asdict(compared.difference), "p_value": compared.p_value},
        "left_out": len(before.keys() ^ lengths.keys()),
    }


def length_slope(data: EvaluationInput) -> Interval:
    """Tokens a round: the least-squares slope of each prompt's length over rounds 0 to the present one, averaged.

    Over the prompts that every round answered; Student's t interval over prompts.
    """
    rounds = range(data.round + 1)
    lengths = [_by_prompt(data.candidates.get(t, ()), lambda answer: answer.n_tokens) for t in rounds]
    common = sorted(set(lengths[0]).intersection(*lengths[1:]))
    centred = [t - data.round / 2 for t in rounds]
    scale = sum(x * x for x in centred)
    return mean_interval(
        [sum(x * _mean(found[p]) for x, found in zip(centred, lengths, strict=True)) / scale for p in common]
    )


def _by_prompt(items: Sequence[JudgeItem], figure: Callable[[Candidate], float]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for item in items:
        values.setdefault(item.prompt.prompt_id, []).append(float(figure(item.candidate)))
    return values


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
