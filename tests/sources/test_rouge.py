"""ROUGE-L of two texts, and of very many, against the textbook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.sources import in_order
from selfalign.sources.repeats import find_repeats
from selfalign.sources.rouge import alike, repeats, rouge_l, words
from tests.judges.scripted import make_prompt

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "?"]), max_size=7).map(" ".join), max_size=12)


def textbook(left: list[str], right: list[str]) -> float:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return 2 * table[-1][-1] / (len(left) + len(right)) if left or right else 0.0


def test_the_reference_example() -> None:
    # LCS 4 ("write a poem about") of 5 and 5 words: F = 8 / 10.
    assert rouge_l(words("Write a poem about cats"), words("write a poem about dogs.")) == 0.8
    assert rouge_l(words("a b"), words("b a")) == 0.5
    assert rouge_l([], []) == 0.0


def test_chinese_is_compared_by_character() -> None:
    assert words("写一首关于猫的诗 in GPT-4") == [*"写一首关于猫的诗", "in", "gpt", "4"]
    assert rouge_l(words("写一首关于猫的诗"), words("写一首关于狗的诗")) == pytest.approx(7 / 8)


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_it_is_the_textbooks(left: list[str], right: list[str]) -> None:
    assert rouge_l(left, right) == textbook(left, right)


@given(TEXTS, TEXTS, st.sampled_from([0.4, 0.5, 0.6, 0.7, 0.8, 1.0]))
def test_no_pair_is_missed_and_none_invented(left: list[str], right: list[str], threshold: float) -> None:
    expected = [
        (i, j, score)
        for i, one in enumerate(left)
        for j, other in enumerate(right)
        if (score := textbook(words(one), words(other))) > threshold
    ]
    assert list(alike(left, right, threshold)) == expected


@given(TEXTS, st.sampled_from([0.4, 0.6, 0.7]), st.integers(1, 4), st.integers(1, 4))
def test_repeats_are_those_of_one_pass_in_order(texts: list[str], threshold: float, rows: int, columns: int) -> None:
    kept: list[int] = []
    expected: dict[int, int] = {}
    for index, text in enumerate(texts):
        near = [i for i in kept if textbook(words(text), words(texts[i])) > threshold]
        if near:
            expected[index] = near[0]
        else:
            kept.append(index)
    assert repeats(texts, threshold) == expected

    def alike(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int]]:
        for i, j in product(left, right):
            if textbook(words(texts[i]), words(texts[j])) > threshold:
                yield i, j

    assert in_order.repeats(len(texts), alike, rows, columns) == expected, "whatever is compared at once"


def test_more_words_than_a_character_of_16_bits_holds() -> None:
    one = " ".join(f"w{i}" for i in range(70_000))
    assert list(alike([one, "w1 w69999"], ["w1 w69999 x", one], 0.75)) == [(0, 1, 1.0), (1, 0, 0.8)]


def test_a_prompt_near_one_that_was_left_out_stays() -> None:
    texts = ["one two three four five", "one two three four six", "one two nine four six", "ONE two three four five!"]
    prompts = [make_prompt(text, text) for text in texts]
    found = find_repeats(prompts, "rouge_l", lambda texts: repeats(texts, 0.7))
    assert [(r.prompt.text, r.kept.text, r.how) for r in found] == [
        (texts[1], texts[0], "rouge_l"),
        (texts[3], texts[0], "normalised"),
    ]
    assert [r.how for r in find_repeats(prompts, "rouge_l", lambda texts: repeats(texts, 0.8))] == ["normalised"]
    assert find_repeats(prompts, "exact") == []
