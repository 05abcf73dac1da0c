from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from selfalign.judges.comparisons import comparisons, keep_together, ring_edges, settle
from tests.judges.scripted import make_items, make_prompt


@given(st.integers(0, 20), st.integers(1, 25))
def test_everybody_meets_as_many_as_asked_for(n: int, degree: int) -> None:
    edges = ring_edges(n, degree)
    met = Counter(node for edge in edges for node in edge)
    wanted = min(degree, n - 1)
    assert all(i < j < n for i, j in edges)
    if n < 2:
        assert not edges
        return
    assert sorted(met.values()) == [wanted] * (n - 1) + [wanted + (wanted % 2 and n % 2)]
    if wanted > 1:
        linked, queue = {0}, [0]
        while queue:
            node = queue.pop()
            new = {i + j - node for i, j in edges if node in (i, j)} - linked
            linked |= new
            queue += new
        assert len(linked) == n


def test_the_choice_depends_on_neither_order_nor_neighbours() -> None:
    one = make_items(*"abcdefghij", prompt=make_prompt("p1"))
    two = make_items(*"abcd", prompt=make_prompt("p2"))
    alone = comparisons(one, 3, (7, 1))
    assert comparisons([*two, *one[::-1]], 3, (7, 1))[: len(alone)] == alone
    assert comparisons(one, 3, (8, 1)) != alone
    assert {c.a.prompt.prompt_id == c.b.prompt.prompt_id for c in comparisons([*one, *two], 3, (7, 1))} == {True}
    assert all((c.a_rank, c.b_rank) == (c.a.candidate.sample_idx, c.b.candidate.sample_idx) for c in alone)


@given(st.floats(0, 1), st.floats(0, 1))
def test_settling(first: float, second: float) -> None:
    strict, outcome = settle(first, second, "strict")
    mean, soft = settle(first, second, "mean")
    assert (mean is None) == (soft == "tie")
    assert (strict is None) == (outcome != "ok")
    assert settle(second, first, "strict") == (strict, outcome)
    if outcome == "disagree":
        assert min(first, second) < 0.5 < max(first, second)
    else:
        assert strict == mean


def test_settled_by_hand() -> None:
    assert settle(0.9, 0.7, "strict") == (0.8, "ok")
    assert settle(0.75, 0.25, "strict") == (None, "disagree")
    assert settle(1.0, 0.25, "strict") == (None, "disagree")
    assert settle(1.0, 0.25, "mean") == (0.625, "ok")
    assert settle(0.75, 0.25, "mean") == (None, "tie")
    assert settle(0.5, 0.5, "strict") == (None, "tie")
    assert settle(0.5, 0.75, "strict") == (0.625, "ok")


def test_batches_are_joined_where_they_part_a_prompt() -> None:
    assert keep_together([[0, 2], [1], [3, 4]], ["p", "p", "q", "r", "r"]) == [[0, 2, 1], [3, 4]]
    assert keep_together([], []) == []
