from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from selfalign.evaluation.pass_rate import PassRate
from selfalign.evaluation.statistics import mean_interval, wilson
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation
from tests.evaluation.rounds import checked, make_input, make_item, verdict

DELTAS = ["pass_rate_delta_vs_m0", "pass_rate_delta_vs_previous"]


def measure(data: EvaluationInput) -> dict[str, Evaluation]:
    return {row.metric: row for row in PassRate(PassRate.Config()).evaluate(data)}


def detail(row: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.detail)
    return found


def two_instructions() -> EvaluationInput:
    items = [make_item("a"), make_item("b", language="zh"), make_item("c")]
    judged = [
        verdict(items[0], ["x", "y"], [True, True], [True, True]),
        verdict(items[1], ["x"], [False], [True]),
        verdict(items[2], ["x", "y"], [True, False], [True, False]),
    ]
    return make_input(0, {0: items}, {0: judged})


def test_prompts_pass_whole_and_instructions_by_themselves() -> None:
    rows = measure(two_instructions())
    strict, loose, single = (rows[f"pass_rate_{m}"] for m in ("strict", "loose", "strict_instruction"))
    assert (strict.value, strict.n) == (pytest.approx(1 / 3), 3)
    assert (strict.low, strict.high) == (wilson(1, 3).low, wilson(1, 3).high)
    assert (loose.value, loose.n) == (pytest.approx(2 / 3), 3)
    assert (single.value, single.n) == (pytest.approx(3 / 5), 5)
    assert detail(strict) == {"by_language": {"en": [1, 2], "zh": [0, 1]}}
    assert detail(single) == {"by_instruction": {"x": [2, 3], "y": [1, 2]}}
    assert {(r.run, r.round, r.split) for r in rows.values()} == {("run", 0, "held_out")}


def test_round_zero_has_nothing_to_compare_with() -> None:
    assert not measure(two_instructions()).keys() & {*DELTAS}


def test_each_round_is_compared_with_the_first_and_the_previous() -> None:
    data = checked(
        2,
        {
            0: {"a": [0], "b": [0], "c": [0], "d": [1]},
            1: {"a": [1], "b": [1], "c": [0], "d": [1]},
            2: {"a": [1], "b": [1], "c": [1], "d": [0]},
        },
    )
    rows = measure(data)
    first, previous = (rows[metric] for metric in DELTAS)
    assert (first.value, first.n) == (0.5, 4)  # +1 +1 +1 -1
    assert (previous.value, previous.n) == (0, 4)  # 0 0 +1 -1
    # gaps 1 1 1 -1: sd 1, half = t(.975, 3) / sqrt(4) = 1.591: both ends are cut
    assert (first.low, first.high) == (-1, 1)
    assert detail(first) == {
        "other_round": 0, "p_value": 0.625, "test": "mcnemar_exact", "better": 3, "worse": 1, "n": 4, "left_out": 0,
    }  # fmt: skip
    assert detail(previous)["other_round"] == 1
    assert detail(previous)["p_value"] == 1


def test_in_round_one_both_comparisons_are_the_same() -> None:
    rows = measure(checked(1, {0: {"a": [0], "b": [1]}, 1: {"a": [1], "b": [1]}}))
    first, previous = (rows[metric] for metric in DELTAS)
    assert replace(first, metric=previous.metric) == previous


def test_several_samples_are_averaged_by_prompt() -> None:
    rows = measure(checked(1, {0: {"a": [0, 0], "b": [1, 0], "c": [1, 1]}, 1: {"a": [1, 0], "b": [1, 1], "c": [1, 1]}}))
    expected = mean_interval([0.5, 1, 1])
    assert (rows["pass_rate_strict"].value, rows["pass_rate_strict"].low) == (expected.value, expected.low)
    assert (rows["pass_rate_strict"].n, rows["pass_rate_strict"].high) == (3, 1)
    assert detail(rows["pass_rate_strict"])["by_language"] == {"en": [5, 6]}
    delta = rows["pass_rate_delta_vs_m0"]
    assert (delta.value, delta.n) == (pytest.approx(1 / 3), 3)
    assert (detail(delta)["test"], detail(delta)["better"], detail(delta)["worse"]) == ("sign_flip", 2, 0)


def test_only_common_prompts_are_compared() -> None:
    rows = measure(
        checked(1, {0: {"a": [0], "b": [0], "gone": [1]}, 1: {"a": [1], "b": [0], "new": [1], "newer": [1]}})
    )
    delta = rows["pass_rate_delta_vs_m0"]
    assert (delta.value, delta.n) == (0.5, 2)
    assert (detail(delta)["n"], detail(delta)["left_out"]) == (2, 3)
    assert rows["pass_rate_strict"].n == 4


def test_a_missing_round_leaves_the_comparison_empty() -> None:
    rows = measure(checked(2, {0: {"a": [0], "b": [1]}, 2: {"a": [1], "b": [1]}}))
    assert rows["pass_rate_delta_vs_m0"].value == 0.5
    gap = rows["pass_rate_delta_vs_previous"]
    assert (gap.value, gap.low, gap.high, gap.n) == (None, None, None, 0)
    assert (detail(gap)["p_value"], detail(gap)["left_out"]) == (None, 2)


def test_without_checked_answers_there_is_no_row() -> None:
    assert measure(make_input(0)) == {}
    assert measure(make_input(1, {1: [make_item("a", round=1)]}, {1: []})) == {}


def test_other_judges_failures_and_unknown_candidates_do_not_count() -> None:
    items = [make_item("a"), make_item("b"), make_item("c")]
    good, other, failed = (verdict(item, ["x"], [True], [True]) for item in items)
    stray = verdict(make_item("stray"), ["x"], [False], [False])
    judged = [good, replace(other, judge="rubric_votes"), replace(failed, outcome="parse_error"), stray]
    row = measure(make_input(0, {0: items}, {0: judged}))["pass_rate_strict"]
    assert (row.value, row.n) == (1, 1)


def test_an_answer_without_constraints_has_not_passed() -> None:
    items = [make_item("a"), make_item("b")]
    empty = replace(verdict(items[1], ["x"], [True], [True]), detail='{"ids":[],"loose":[],"strict":[]}')
    row = measure(make_input(0, {0: items}, {0: [verdict(items[0], ["x"], [False], [False]), empty]}))
    assert (row["pass_rate_strict"].value, row["pass_rate_strict"].n) == (0, 1)


def test_an_answer_checked_twice_is_one_sample() -> None:
    item = make_item("a")
    again = replace(verdict(item, ["x"], [True], [True]), judgement_id="j-other", judge_hash="newer")
    row = measure(make_input(0, {0: [item]}, {0: [verdict(item, ["x"], [True], [True]), again]}))["pass_rate_strict"]
    assert row.n == 1
    assert detail(row)["by_language"] == {"en": [1, 1]}


def test_one_prompt() -> None:
    rows = measure(checked(1, {0: {"a": [0]}, 1: {"a": [1]}}))
    delta = rows["pass_rate_delta_vs_m0"]
    assert (delta.value, delta.low, delta.high, delta.n) == (1, None, None, 1)


def test_nothing_changed() -> None:
    same = {"a": [1], "b": [0], "c": [1]}
    delta = measure(checked(1, {0: same, 1: same}))["pass_rate_delta_vs_m0"]
    assert (delta.value, delta.low, delta.high, detail(delta)["p_value"]) == (0, 0, 0, 1)


def test_order_of_rows_does_not_matter() -> None:
    data = checked(1, {0: {"b": [0, 1], "a": [1, 1], "c": [0, 0]}, 1: {"a": [1, 0], "c": [0, 1], "b": [1, 1]}})
    turned = replace(
        data,
        candidates={t: rows[::-1] for t, rows in data.candidates.items()},
        judgements={t: rows[::-1] for t, rows in data.judgements.items()},
    )
    assert measure(data) == measure(turned)
