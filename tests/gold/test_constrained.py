from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from selfalign import constraints
from selfalign.gold.answers import Answer, load_answers
from selfalign.gold.constrained import constrained_items
from selfalign.gold.items import GoldItem

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def plain() -> list[Answer]:
    return [a for a in load_answers(DATA / "gold_answers.jsonl") if not a.instruction_id_list]


@pytest.fixture(scope="module")
def items(plain: list[Answer]) -> list[GoldItem]:
    return constrained_items(plain, "teach", 300, seed=3)


def test_the_better_answer_follows_and_the_worse_one_does_not(items: list[GoldItem]) -> None:
    assert len(items) == 300
    for item in items:
        for text, follows in ((item.better, True), (item.worse, False)):
            result = constraints.check(text, item.instruction_id_list, item.kwargs, item.prompt)
            assert not result.errors and all(result.strict) is follows, item


def test_each_text_is_better_under_one_demand_and_worse_under_another(items: list[GoldItem]) -> None:
    pairs = Counter((item.better, item.worse) for item in items)
    assert sum(pairs[worse, better] >= n for (better, worse), n in pairs.items()) >= 0.95 * len(pairs)


def test_many_kinds_of_demands_in_both_languages(items: list[GoldItem]) -> None:
    kinds = {language: Counter() for language in ("en", "zh")}  # type: dict[str, Counter[str]]
    for item in items:
        kinds[item.language][item.instruction_id_list[0]] += 1
    assert len(kinds["en"]) >= 15 and len(kinds["zh"]) >= 6
    assert max(kinds["en"].values()) < 0.2 * sum(kinds["en"].values())


def test_the_same_again_for_the_same_seed_in_any_order(plain: list[Answer]) -> None:
    one = constrained_items(plain, "teach", 20, seed=1)
    assert constrained_items(list(reversed(plain)), "teach", 20, seed=1) == one
    assert constrained_items(plain, "teach", 20, seed=2) != one
    assert constrained_items(plain, "teach", 10, seed=1) == one[:10]


def test_nothing_can_be_made_of_constrained_prompts() -> None:
    answer = Answer("k", "g", "en", "t", "Say hello.", ("Hello!",), instruction_id_list=("punctuation:no_comma",))
    assert constrained_items([answer], "teach", 5, seed=1) == []
    assert constrained_items([], "teach", 5, seed=1) == []
