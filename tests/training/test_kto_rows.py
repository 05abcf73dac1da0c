"""The completions that estimate z0, and the balance of the classes: pure functions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.training.kto_rows import BALANCE, balance, label_columns, label_rows
from selfalign.types import LabelExample


def example(number: int, prompt: int) -> LabelExample:
    return LabelExample(str(number), (prompt,), (100 + number, 7), number % 2 == 0, 1.0)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(2, 6))
def test_a_micro_batch_is_read_behind_its_own_prompts(prompts: list[int], micro_batch: int) -> None:
    ordered = [example(i, prompt) for i, prompt in enumerate(prompts)]
    rows = label_rows(ordered, micro_batch, max_length=10)
    assert [row.label_id for row in rows] == [e.label_id for e in ordered]
    for start in range(0, len(rows), micro_batch):
        batch = rows[start : start + micro_batch]
        assert all(row.kl_ids != row.completion_ids for row in batch), "no row estimates z0 with its own completion"
        if len(batch) > 1:
            assert Counter(r.kl_ids for r in batch) == Counter(r.completion_ids for r in batch)
    for row in rows:
        writer = next(e for e in ordered if e.completion_ids == row.kl_ids)
        assert row.mismatched == (writer.prompt_ids != row.prompt_ids)


def test_distinct_prompts_are_rotated_by_one_as_trl_does() -> None:
    rows = label_rows([example(i, i) for i in range(7)], 3, max_length=10)
    assert [row.kl_ids[0] - 100 for row in rows] == [2, 0, 1, 5, 3, 4, 5]
    assert all(row.mismatched for row in rows)


def test_answers_to_one_prompt_are_kept_apart_where_that_can_be() -> None:
    rows = label_rows([example(i, prompt) for i, prompt in enumerate([1, 1, 2, 2])], 4, max_length=10)
    assert [row.kl_ids[0] - 100 for row in rows] == [2, 3, 0, 1]
    assert [row.mismatched for row in label_rows([example(0, 1), example(1, 1)], 2, 10)] == [False, False]


def test_a_completion_behind_a_longer_prompt_is_cut() -> None:
    long, short = LabelExample("a", (1,) * 6, (2,), True, 1.0), LabelExample("b", (1,), (3,) * 7, False, 1.0)
    assert [row.kl_ids for row in label_rows([long, short], 2, max_length=8)] == [(3, 3), (2,)]


@given(st.floats(0.01, 1000), st.floats(0.01, 1000))
def test_classes_are_balanced_by_raising_one_weight(desirable: float, undesirable: float) -> None:
    weights = balance(desirable, undesirable)
    ratio = weights[0] * desirable / (weights[1] * undesirable)
    assert BALANCE[0] - 1e-9 <= ratio <= BALANCE[1] + 1e-9
    assert min(weights) == 1.0


@pytest.mark.parametrize(
    ("counts", "weights"),
    [((10, 10), (1, 1)), ((12, 10), (1, 1)), ((1, 10), (10, 1)), ((20, 10), (1, 1.5)), ((4, 3), (1, 1))],
)
def test_balance(counts: tuple[int, int], weights: tuple[float, float]) -> None:
    assert balance(*counts) == pytest.approx(weights)


def test_columns_are_those_of_trls_collator() -> None:
    rows = label_rows([example(0, 1), example(1, 2)], 2, max_length=10)
    columns = label_columns(rows, [(-1.0, -2.0), (-3.0, -4.0)])
    assert columns["KL_completion_ids"] == [[101, 7], [100, 7]]
    assert (columns["ref_logps"], columns["ref_KL_logps"]) == ([-1.0, -3.0], [-2.0, -4.0])
    assert columns["label"] == [True, False]
