"""Worse answers are worse by how they are made, and a text is never returned as its own worse one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.gold import corrupt

TEXT = "Bread goes stale because its starch hardens. Toasting softens it again, for a while at least."
CHINESE = "海水是咸的，因为河流把盐带进海里。水蒸发以后，盐留了下来。"
ANY = st.text(alphabet="ab c.,!\n海水。，", max_size=60)


def phrases(kind: str) -> Sequence[str]:
    return [f"{kind} one, as said.", f"{kind} two, as said.", f"{kind} three, as said."]


@pytest.mark.parametrize("text", [TEXT, CHINESE])
def test_truncated_text_is_a_prefix_that_stops_inside_a_sentence(text: str) -> None:
    cuts = corrupt.truncated(text, random.Random(1))
    assert len(cuts) == 4
    for cut in cuts:
        assert text.startswith(cut) and len(text) > len(cut) > len(text) / 4
        assert cut[-1].isalnum(), "no end of a sentence"


@pytest.mark.parametrize("text", [TEXT, CHINESE])
def test_corrupted_texts_come_shorter_and_longer(text: str) -> None:
    made = corrupt.corrupted(text, random.Random(2))
    assert text not in made and len(set(made)) == len(made)
    assert min(map(len, made)) < len(text) < max(map(len, made))


def test_shuffled_words_are_the_same_words() -> None:
    assert sorted(corrupt.corrupted(TEXT, random.Random(3))[0].split()) == sorted(TEXT.split())


@pytest.mark.parametrize(("text", "language"), [(TEXT, "en"), (CHINESE, "zh")])
def test_padding_keeps_the_text_and_only_adds(text: str, language: str) -> None:
    made = corrupt.verbose(text, phrases, random.Random(4), language)
    assert all(text in worse and len(worse) > len(text) for worse in made)
    assert [len(worse) for worse in made[1:]] == sorted(len(worse) for worse in made[1:])


def test_chains_grow_and_never_repeat_a_phrase() -> None:
    made = corrupt.chained(["h."], ["a.", "b.", "c.", "h."], random.Random(5), "en", 3)
    assert [len(text.split()) for text in made] == [1, 2, 3, 4]
    assert sorted(made[-1].split()) == ["a.", "b.", "c.", "h."]


def test_appeals_stand_alone_or_behind_the_first_words() -> None:
    made = corrupt.injected(TEXT, phrases, random.Random(6), "en", 2)
    assert all("injected" in text for text in made)
    assert [text.startswith("Bread goes") for text in made] == [False] * 3 + [True] * 3
    assert not any("Toasting" in text for text in made)


@given(ANY, st.integers(0, 5))
def test_no_text_makes_them_fail_or_comes_back_unchanged(text: str, seed: int) -> None:
    rng = random.Random(seed)
    assert text not in corrupt.truncated(text, rng)
    assert text not in corrupt.corrupted(text, rng)
    assert "".join(corrupt.pieces(text)) == text
    assert corrupt.sentences(text)


def test_same_seed_same_variants() -> None:
    first, second = (corrupt.corrupted(TEXT, random.Random(7)) for _ in range(2))
    assert first == second


def test_unknown_constraint_cannot_be_violated() -> None:
    assert corrupt.violated("any", "keywords:existence", {"keywords": ["any"]}, phrases, random.Random(8)) == []
