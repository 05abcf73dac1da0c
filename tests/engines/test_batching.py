from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.engines.batching import even_pieces, plan_batches, refilled_batches
from selfalign.prefixes import shared_prefix_length

plans = st.fixed_dictionaries(
    {"samples": st.integers(1, 8), "max_tokens": st.integers(0, 64), "max_rows": st.integers(1, 64),
     "token_budget": st.integers(64, 2048)}
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), max_size=60), options=plans)
def test_every_index_once_within_budget_longest_first(lengths: list[int], options: dict[str, int]) -> None:
    batches = plan_batches(lengths, **options)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        rows = len(batch) * options["samples"]
        padded = rows * (max(lengths[i] for i in batch) + options["max_tokens"])
        assert len(batch) == 1 or (rows <= options["max_rows"] and padded <= options["token_budget"])
        assert batch == sorted(batch, key=lambda i: (lengths[i], i))
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert batches == plan_batches(list(lengths), **options)


def test_an_item_over_the_budget_is_a_batch_of_its_own() -> None:
    # 500 x 2 rows exceeds 600; the two short ones fit together: 4 rows x (20 + 10) = 120.
    assert plan_batches([20, 500, 10], samples=2, max_tokens=10, max_rows=64, token_budget=600) == [[1], [2, 0]]


def test_nothing_to_plan() -> None:
    assert plan_batches([], samples=4, max_tokens=8, max_rows=64, token_budget=64) == []


@given(
    prefix=st.lists(st.integers(0, 3), max_size=5), rests=st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1)
)
def test_shared_prefix(prefix: list[int], rests: list[list[int]]) -> None:
    sequences = [prefix + rest for rest in rests]
    shared = shared_prefix_length(sequences)
    assert shared >= len(prefix)
    assert len({tuple(s[:shared]) for s in sequences}) == 1
    if shared < min(map(len, sequences)):
        assert len({s[shared] for s in sequences}) > 1


def test_rows_are_split_evenly() -> None:
    # 40 would fit: 32 and 32 take no longer than 40 and 24.
    assert even_pieces(64, 40) == [range(32), range(32, 64)]
    assert even_pieces(3, 1) == [range(1), range(1, 2), range(2, 3)]
    assert even_pieces(0, 64) == []


@given(st.integers(1, 300), st.integers(1, 64))
def test_pieces_are_as_few_as_there_can_be(count: int, most: int) -> None:
    pieces = even_pieces(count, most)
    assert [row for piece in pieces for row in piece] == list(range(count))
    sizes = {len(piece) for piece in pieces}
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
    assert (len(pieces) - 1) * most < count


def test_samples_wait_for_places_and_what_is_only_read_does_not() -> None:
    limits = {"samples": 4, "max_rows": 256, "together": 128, "token_budget": 32768}
    sampled = refilled_batches([56] * 96, max_tokens=200, **limits)
    assert [len(batch) for batch in sampled] == [64, 32]
    # 900 tokens a row: 36 rows in memory, as many again waiting.
    assert [len(batch) for batch in refilled_batches([700] * 20, max_tokens=200, **limits)] == [18, 2]
    assert max(map(len, refilled_batches([56] * 96, max_tokens=1, **limits))) == 32
    small = {**limits, "max_rows": 12}
    assert [len(batch) for batch in refilled_batches([56] * 6, max_tokens=200, **small)] == [3, 3]
