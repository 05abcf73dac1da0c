from __future__ import annotations

import json

import pytest

from selfalign.evaluation.statistics import mean_interval, wilson
from selfalign.evaluation.text import Diversity, Length, distinct, first_words, words
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation
from tests.evaluation.rounds import make_input, make_item


def length(data: EvaluationInput) -> dict[str, Evaluation]:
    return {row.metric: row for row in Length(Length.Config()).evaluate(data)}


def diversity(*texts: str) -> dict[str, Evaluation]:
    data = make_input(0, {0: [make_item(f"p{i}", text) for i, text in enumerate(texts)]})
    return {row.metric: row for row in Diversity(Diversity.Config()).evaluate(data)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, hello WORLD 42!", ["hello", "hello", "world", "42"]),
        ("snake_case", ["snake", "case"]),
        ("你好world再见", ["你", "好", "world", "再", "见"]),
        ("abc你好", ["abc", "你", "好"]),
        ("カナ한국 𠀀", ["カ", "ナ", "한", "국", "𠀀"]),
        ("Äpfel, naïve", ["äpfel", "naïve"]),
        ("…!? ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_distinct_by_hand() -> None:
    texts = [["a", "b", "a", "b"], ["a", "b"]]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4  # ab ba ab | ab
    assert distinct(texts, 3) == 1  # aba bab; nothing spans two texts
    assert distinct(texts, 5) is None
    assert distinct([], 1) is None


def test_first_words_cut_the_last_text() -> None:
    assert first_words([["a", "b"], ["c", "d"], ["e"]], 3) == [["a", "b"], ["c"], []]


def test_diversity_rows() -> None:
    rows = diversity("a b a b", "A, b.", "", "  ")
    assert (rows["distinct_1"].value, rows["distinct_2"].value, rows["distinct_3"].value) == (2 / 6, 2 / 4, 1)
    assert (rows["distinct_1"].n, rows["distinct_1"].low, rows["distinct_1"].high) == (4, None, None)
    assert (rows["empty_share"].value, rows["empty_share"].low) == (0.5, wilson(2, 4).low)


def test_fixed_diversity_does_not_fall_with_length() -> None:
    block = " ".join(f"w{i}" for i in range(1000))
    once, more = diversity(block, block), diversity(block, block, block, block)
    assert once["distinct_2"].value == 0.5
    assert more["distinct_2"].value == 0.25
    assert once["distinct_2_fixed"].value == more["distinct_2_fixed"].value == 0.5
    assert json.loads(more["distinct_2_fixed"].detail) == {"words": 2000}
    assert json.loads(diversity("a b c")["distinct_2_fixed"].detail) == {"words": 3}


def test_fixed_diversity_goes_by_prompt_not_by_order_of_rows() -> None:
    items = [make_item(f"p{i}", f"{'x ' * 700} {i}") for i in range(4)]
    turned = [make_input(0, {0: order}) for order in (items, items[::-1])]
    first, second = (Diversity(Diversity.Config()).evaluate(data) for data in turned)
    assert first == second


def test_only_empty_answers() -> None:
    rows = diversity("", "")
    assert {rows[f"distinct_{n}"].value for n in (1, 2, 3)} == {None}
    assert rows["distinct_2_fixed"].value is None
    assert rows["empty_share"].value == 1


def test_length_by_hand() -> None:
    before = [make_item(p, n_tokens=n) for p, n in (("a", 10), ("b", 20), ("c", 30))]
    now = [
        make_item(p, round=1, n_tokens=n, finish=finish)
        for p, n, finish in (("a", 12, "stop"), ("b", 21, "stop"), ("c", 33, "length"))
    ]
    rows = length(make_input(1, {0: before, 1: now}))
    mean, cut = rows["mean_length_tokens"], rows["truncated_share"]
    assert (mean.value, mean.low, mean.n) == (22, mean_interval([12, 21, 33]).low, 3)
    assert (cut.value, cut.high, cut.n) == (pytest.approx(1 / 3), wilson(1, 3).high, 3)
    found = json.loads(mean.detail)
    assert found["left_out"] == 0
    delta = found["delta_vs_m0"]
    # gaps 2 1 3: mean 2, half 2.484138; 2 of the 8 sign vectors are as extreme
    assert (delta["value"], delta["low"], delta["high"]) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert delta["p_value"] == pytest.approx(0.25, abs=0.02)


def test_several_samples_count_as_one_prompt() -> None:
    items = [
        make_item("a", sample=0, n_tokens=10), make_item("a", sample=1, n_tokens=20, finish="length"),
        make_item("b", n_tokens=30),
    ]  # fmt: skip
    rows = length(make_input(0, {0: items}))
    assert (rows["mean_length_tokens"].value, rows["mean_length_tokens"].n) == (22.5, 2)
    assert (rows["truncated_share"].value, rows["truncated_share"].n) == (0.25, 2)
    assert rows["mean_length_tokens"].detail == "{}"


def test_without_m0_or_common_prompts_the_delta_is_empty() -> None:
    for before in ({}, {0: [make_item("other")]}):
        rows = length(make_input(1, {**before, 1: [make_item("a", round=1)]}))
        found = json.loads(rows["mean_length_tokens"].detail)
        assert found["delta_vs_m0"] == {"value": None, "low": None, "high": None, "n": 0, "p_value": None}


def test_a_round_without_answers_gives_no_row() -> None:
    for data in (make_input(1), make_input(1, {1: []})):
        assert length(data) == {}
        assert Diversity(Diversity.Config()).evaluate(data) == []


def test_length_slope_is_the_mean_of_the_prompts_slopes() -> None:
    """a: 10, 20, 30 grows 10 a round; b: 10, 30, 14 grows 2; c did not answer round 1."""
    lengths = [{"a": 10, "b": 10, "c": 9}, {"a": 20, "b": 30}, {"a": 30, "b": 14, "c": 99}]
    data = make_input(
        2, {t: [make_item(p, round=t, n_tokens=n) for p, n in found.items()] for t, found in enumerate(lengths)}
    )
    slope = length(data)["length_slope"]
    assert (slope.value, slope.n) == (6, 2)
    assert slope.low is not None and slope.high is not None and slope.low < 2 < 10 < slope.high
    assert "length_slope" not in length(make_input(0, {0: [make_item("a")]}))
