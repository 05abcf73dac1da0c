"""Self-BLEU: how much answers to different prompts share their wording (Zhu et al., arXiv 1802.01886)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.evaluation.rows import point, row
from selfalign.evaluation.text import words
from selfalign.identity import derive_seed
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation

_ORDERS = 4
#: Matches that an order without any is given: smoothing method 1 of Chen and Cherry (2014), as Texygen uses it.
_EPSILON = 0.1


class SelfBleu:
    """Mean BLEU-4 of each answer with all others as references; Chinese and the like by character.

    One answer a prompt (sample 0), on the same seeded draw of prompts in every round. Answers without words
    are left out. There is no interval: every answer is a reference to all others.
    """

    name = "self_bleu"

    class Config(Settings):
        id: Literal["self_bleu"] = "self_bleu"
        sample: int = Field(200, ge=2, description="answers at most; the figure grows with their number")

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A round without answers gives no row."""
        answers = {
            item.prompt.prompt_id: item.candidate.text
            for item in data.candidates.get(data.round, ())
            if item.candidate.sample_idx == 0
        }
        # Not by data.seed, which differs from round to round.
        drawn = sorted(answers, key=lambda prompt_id: (derive_seed(0, "self_bleu", prompt_id), prompt_id))
        texts = [text for p in drawn[: self.config.sample] if (text := words(answers[p]))]
        if not answers:
            return []
        return [row(data, "self_bleu", point(self_bleu(texts), len(texts)))]


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Mean over ``texts`` (words, none empty) of BLEU-4 against the others; None with fewer than two.

    Time grows with the number of words, not with its square: for each n-gram the two largest counts in any
    text say what the largest in the others is.
    """
    if len(texts) < 2:
        return None
    counts = [[_grams(text, n) for text in texts] for n in range(1, _ORDERS + 1)]
    largest = [_two_largest(of_order) for of_order in counts]
    lengths = sorted(map(len, texts))
    return math.fsum(_bleu(i, texts[i], counts, largest, lengths) for i in range(len(texts))) / len(texts)


def _bleu(
    index: int,
    text: Sequence[str],
    counts: Sequence[Sequence[Counter[tuple[str, ...]]]],
    largest: Sequence[dict[tuple[str, ...], tuple[int, int, int]]],
    lengths: Sequence[int],
) -> float:
    """BLEU of text ``index``; a text shorter than four words has only the orders that it has n-grams of."""
    logs = []
    for of_order, top in zip(counts, largest, strict=True):
        own = of_order[index]
        total = sum(own.values())
        if not total:
            break
        matched = 0
        for gram, count in own.items():
            first, holder, second = top[gram]
            matched += min(count, second if holder == index else first)
        logs.append(math.log(max(matched, _EPSILON) / total))
    return math.exp(sum(logs) / len(logs) + _brevity(len(text), lengths))


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """Log of BLEU's brevity penalty with the reference nearest in length, of two the shorter."""
    at = bisect_left(lengths, length)
    others = [*lengths[max(at - 1, 0) : at], *lengths[at + 1 : at + 2]]  # the text itself stands at ``at``
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return min(0.0, 1 - nearest / length)


def _grams(text: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))


def _two_largest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """n-gram -> (largest count, the text that has it, largest count in any other text)."""
    top: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, own in enumerate(counts):
        for gram, count in own.items():
            first, holder, second = top.get(gram, (0, -1, 0))
            top[gram] = (count, index, first) if count > first else (first, holder, max(second, count))
    return top
