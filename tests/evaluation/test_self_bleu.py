from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.evaluation.self_bleu import SelfBleu, self_bleu
from selfalign.types import Evaluation
from tests.evaluation.rounds import make_input, make_item

texts = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), min_size=2, max_size=7)


def bleu(text: list[str], references: list[list[str]]) -> float:
    """BLEU-4 as its paper writes it, slowly."""
    logs = []
    for n in range(1, 5):
        own = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        if not own:
            break
        matched = 0
        for gram in set(own):
            most = max(sum(tuple(other[i : i + n]) == gram for i in range(len(other) - n + 1)) for other in references)
            matched += min(own.count(gram), most)
        logs.append(math.log((matched or 0.1) / len(own)))
    nearest = min((len(other) for other in references), key=lambda length: (abs(length - len(text)), length))
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - nearest / len(text)))


def test_equal_answers_are_one_and_unlike_ones_near_nothing() -> None:
    same = ["the", "cat", "sat", "on", "the", "mat"]
    assert self_bleu([same, same, same]) == pytest.approx(1)
    other = ["we", "do", "not", "know", "any", "of", "those"]
    found = self_bleu([same, other])
    assert found is not None and found < 0.05


def test_worked_by_hand() -> None:
    """a b c d / a b c e: matched 3 of 4, 2 of 3, 1 of 2, none of 1 (counted as 0.1); equal lengths."""
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25
    assert self_bleu([["a", "b", "c", "d"], ["a", "b", "c", "e"]]) == pytest.approx(expected)


def test_a_short_answer_pays_for_its_brevity() -> None:
    """ "a b" has two orders, both fully matched, and the reference is twice as long."""
    assert self_bleu([["a", "b"], ["a", "b", "a", "b"]]) == pytest.approx(
        (math.exp(1 - 4 / 2) + bleu(["a", "b", "a", "b"], [["a", "b"]])) / 2
    )


@settings(max_examples=150, deadline=None)
@given(texts)
def test_the_fast_way_equals_the_slow_one(found: list[list[str]]) -> None:
    slow = sum(bleu(text, found[:i] + found[i + 1 :]) for i, text in enumerate(found)) / len(found)
    assert self_bleu(found) == pytest.approx(slow)


def measure(answers: dict[str, str], **config: int) -> list[Evaluation]:
    items = [make_item(prompt_id, text) for prompt_id, text in answers.items()]
    return SelfBleu(SelfBleu.Config(**config)).evaluate(make_input(0, {0: items}))


def test_chinese_counts_by_character_and_empty_answers_not_at_all() -> None:
    (row,) = measure({"a": "我们去看海", "b": "我们去看海。", "c": " "})
    assert (row.value, row.n) == (pytest.approx(1), 2)
    assert measure({}) == []
    (row,) = measure({"a": "alone"})
    assert (row.value, row.n) == (None, 1)


def test_the_draw_is_the_same_in_every_round() -> None:
    answers = {f"p{i}": f"{'same words here' if i % 2 else f'other text {i}'} today" for i in range(40)}
    (one,) = measure(answers, sample=10)
    (again,) = measure(dict(reversed(answers.items())), sample=10)
    assert one == again
    assert one.n == 10
