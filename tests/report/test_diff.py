"""Which words differ: what is shown is the text itself, and unmarked words are common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selfalign.report.diff import Run, tokens, word_diff

_WORDS = st.lists(st.sampled_from(["the", "cat", "sat", " ", "\n", ",", "猫", "é", "<b>"]), max_size=30).map("".join)


def test_a_changed_word_is_marked_on_both_sides() -> None:
    left, right = word_diff("The cat sat.", "The dog sat.")
    assert left == [Run("The ", False), Run("cat", True), Run(" sat.", False)]
    assert right == [Run("The ", False), Run("dog", True), Run(" sat.", False)]


def test_a_space_between_marked_words_is_marked() -> None:
    left, _ = word_diff("one two three", "four five three")
    assert left == [Run("one two", True), Run(" three", False)]


def test_texts_without_spaces_are_compared_by_character() -> None:
    left, right = word_diff("床前明月光", "床前看月光")
    assert [run.text for run in left if run.only_here] == ["明"]
    assert [run.text for run in right if run.only_here] == ["看"]


def test_what_is_very_long_is_shown_without_marks() -> None:
    left, right = word_diff("a " * 5000, "b " * 5000)
    assert (left, right) == ([Run("a " * 5000, False)], [Run("b " * 5000, False)])


@given(st.text())
def test_tokens_are_the_whole_text(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(_WORDS, _WORDS)
def test_stretches_are_the_texts(left: str, right: str) -> None:
    ours, theirs = word_diff(left, right)
    assert "".join(run.text for run in ours) == left
    assert "".join(run.text for run in theirs) == right
    # Spaces between marks aside, what is not marked stands in both texts in the same order.
    common = ["".join("".join(run.text for run in side if not run.only_here).split()) for side in (ours, theirs)]
    assert common[0] == common[1]


@given(_WORDS)
def test_equal_texts_have_no_marks(text: str) -> None:
    assert not [run for side in word_diff(text, text) for run in side if run.only_here]
