from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.errors import BadInput
from selfalign.training.dataset import (
    completion_columns,
    fit,
    fit_pairs,
    pair_columns,
    pair_sequences,
    training_order,
)
from selfalign.types import CompletionExample, PairExample

PAIR = PairExample("p1", (1, 2), (3, 4, 5), (6,), 1.0, 1.0)


def test_completions_are_cut_at_their_end_and_prompts_never() -> None:
    assert fit("pair x", [1, 2], [3, 4, 5], max_length=4) == (3, 4)
    assert fit("pair x", [1, 2], [3, 4, 5], max_length=5) == (3, 4, 5)
    assert fit("pair x", [1, 2], [3, 4, 5], max_length=3) == (3,)


def test_a_prompt_that_leaves_no_room_names_its_pair() -> None:
    with pytest.raises(BadInput, match=r"pair p1: its prompt has 2 tokens.*max_length"):
        fit_pairs([PAIR], max_length=2)


@pytest.mark.parametrize("pair", [PairExample("p", (1,), (), (2,), 1, 1), PairExample("p", (), (1,), (2,), 1, 1)])
def test_empty_sides_are_refused(pair: PairExample) -> None:
    with pytest.raises(BadInput, match="pair p: empty"):
        fit_pairs([pair], max_length=8)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_mean_nothing_are_refused(weight: float) -> None:
    with pytest.raises(BadInput, match="weight"):
        fit_pairs([PairExample("p", (1,), (2,), (3,), 1.0, weight)], max_length=8)


def test_pair_columns_line_up_with_reference_log_probs() -> None:
    other = PairExample("p2", (7,), (8,), (9, 10), 2.0, 0.5)
    sequences = pair_sequences([PAIR, other])
    assert [s.completion_ids for s in sequences] == [(3, 4, 5), (8,), (6,), (9, 10)]
    columns = pair_columns([PAIR, other], [-1.0, -2.0, -3.0, -4.0])
    assert columns["ref_chosen_logps"] == [-1.0, -2.0]
    assert columns["ref_rejected_logps"] == [-3.0, -4.0]
    assert columns["weight"] == [1.0, 0.5]
    assert columns["rejected_ids"] == [[6], [9, 10]]


def test_only_completion_tokens_are_labelled() -> None:
    columns = completion_columns([CompletionExample("e", (1, 2), (3, 4), 1.0)])
    assert columns["input_ids"] == [[1, 2, 3, 4]]
    assert columns["labels"] == [[-100, -100, 3, 4]]


ORDERS = {
    "lengths": st.lists(st.integers(1, 50), min_size=1, max_size=60),
    "epochs": st.sampled_from([0.1, 0.5, 1.0, 1.5, 3.0]),
    "batch_size": st.integers(1, 8),
    "bucketing": st.booleans(),
}


@given(**ORDERS)
def test_every_epoch_sees_every_example_once(
    lengths: list[int], epochs: float, batch_size: int, bucketing: bool
) -> None:
    order = training_order(lengths, epochs, batch_size, seed=3, bucketing=bucketing)
    assert len(order) == max(1, round(epochs * len(lengths)))
    counts = Counter(order)
    assert max(counts.values()) - min(counts.get(i, 0) for i in range(len(lengths))) <= 1
    assert order == training_order(lengths, epochs, batch_size, seed=3, bucketing=bucketing)


def test_order_depends_on_the_seed_and_the_epoch() -> None:
    lengths = [5] * 40
    one = training_order(lengths, 2.0, 8, seed=1, bucketing=False)
    assert one != training_order(lengths, 2.0, 8, seed=2, bucketing=False)
    assert set(one[:40]) == set(one[40:]) and one[:40] != one[40:]


def test_a_step_is_sorted_by_length_so_that_micro_batches_pad_less() -> None:
    lengths = [9, 1, 7, 3, 8, 2]
    order = training_order(lengths, 1.0, batch_size=6, seed=0, bucketing=False)
    assert [lengths[i] for i in order] == sorted(lengths)


def test_bucketing_makes_whole_steps_of_similar_lengths() -> None:
    lengths = [1, 100] * 32

    def spread(bucketing: bool) -> int:
        order = training_order(lengths, 1.0, 8, seed=0, bucketing=bucketing)
        steps = [[lengths[i] for i in order[s : s + 8]] for s in range(0, len(order), 8)]
        return sum(max(step) - min(step) for step in steps)

    assert spread(True) == 0 < spread(False)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=40), batch_size=st.integers(1, 8), epochs=st.integers(1, 2),
    bucketing=st.booleans(),
)  # fmt: skip
def test_groups_change_the_order_and_nothing_else(
    sizes: list[int], batch_size: int, epochs: int, bucketing: bool
) -> None:
    groups = [f"g{number}" if size > 1 else None for number, size in enumerate(sizes) for _ in range(size)]
    order = training_order([3] * len(groups), epochs, batch_size, 1, bucketing, groups)
    assert Counter(order) == dict.fromkeys(range(len(groups)), epochs)


def test_a_group_is_in_one_step_and_its_members_are_neighbours() -> None:
    groups = [f"pair{i // 2}" for i in range(200)] + [None] * 24
    lengths = [10 + i % 7 for i in range(224)]
    order = training_order(lengths, 1.0, 16, 5, False, groups)
    steps = [order[start : start + 16] for start in range(0, len(order), 16)]
    for step in steps:
        members = [groups[i] for i in step if groups[i]]
        assert all(members[i] == members[i + 1] for i in range(0, len(members), 2))
    assert order != sorted(order)


def test_a_group_larger_than_a_step_is_seen_whole() -> None:
    assert sorted(training_order([1] * 9, 1.0, 4, 0, False, ["big"] * 9)) == list(range(9))
