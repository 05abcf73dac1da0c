from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.evaluation.near_duplicates import Grams, Index, NearDuplicates, jaccard
from selfalign.types import Candidate, Evaluation
from tests.evaluation.rounds import make_input, make_pair, make_training

LONG = " ".join(f"word{i}" for i in range(60))


def measure(earlier: list[Candidate], now: list[Candidate], chosen: list[Candidate]) -> dict[str, Evaluation]:
    data = replace(
        make_input(2), training_candidates={1: earlier, 2: now}, pairs={2: [make_pair(c, c) for c in chosen]}
    )
    return {row.metric: row for row in NearDuplicates(NearDuplicates.Config()).evaluate(data)}


def test_shares_of_candidates_and_of_chosen_answers() -> None:
    earlier = [make_training("a", 1, LONG), make_training("b", 1, "short one")]
    now = [
        make_training("a", 2, LONG.replace("word59", "another"), 0),  # 55 of 57 grams in common
        make_training("a", 2, " ".join(f"new{i}" for i in range(60)), 1),
        make_training("b", 2, "Short one!", 0),
        make_training("b", 2, "   ", 1),
        make_training("c", 2, "short", 0),
    ]
    rows = measure(earlier, now, [now[1], now[2]])
    assert (rows["near_duplicate_candidates"].value, rows["near_duplicate_candidates"].n) == (2 / 4, 4)
    assert (rows["near_duplicate_chosen"].value, rows["near_duplicate_chosen"].n) == (1 / 2, 2)
    assert rows["near_duplicate_candidates"].split == "train"
    low, high = rows["near_duplicate_candidates"].low, rows["near_duplicate_candidates"].high
    assert low is not None and high is not None and 0 <= low < 0.5 < high <= 1


def test_the_first_round_has_nothing_to_repeat() -> None:
    data = replace(make_input(1), training_candidates={1: [make_training("a", 1, LONG)]})
    assert NearDuplicates(NearDuplicates.Config()).evaluate(data) == []


def test_jaccard_of_word_grams() -> None:
    grams = Grams()
    one, other = grams.of("a b c d e f"), grams.of("A b, c d e g")
    assert (len(one), len(other)) == (2, 2)
    assert jaccard(one, other) == pytest.approx(1 / 3)
    assert len(grams.of("她说今天会下雨")) == 3
    assert len(grams.of("a b")) == 1
    assert jaccard(grams.of("a b"), grams.of("a b c")) == 0


def test_hashes_do_not_depend_on_what_was_read_before() -> None:
    fresh, used = Grams(), Grams()
    used.of("entirely other words come first")
    np.testing.assert_array_equal(fresh.of(LONG), used.of(LONG))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 58), st.lists(st.integers(0, 59), max_size=3, unique=True), st.integers(0, 2**31))
def test_the_index_agrees_with_comparing_all(cut: int, changed: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = [" ".join(f"w{i}" for i in random.integers(0, 500, 60)) for _ in range(20)]
    words = texts[7].split()[: 60 - cut // 6]
    for place in changed:
        if place < len(words):
            words[place] = "changed"
    grams, index = Grams(), Index(0.8)
    sets = [grams.of(text) for text in texts]
    for members in sets:
        index.add(members)
    own = grams.of(" ".join(words))
    assert index.holds(own) == (max(jaccard(own, members) for members in sets) >= 0.8)


def test_twice_the_texts_do_not_take_twice_the_looks() -> None:
    """Boilerplate that fills buckets is looked at a bounded number of times."""
    grams, index = Grams(), Index(0.8)
    for i in range(3000):
        index.add(grams.of(f"{LONG[:200]} {' '.join(f'x{i}y{j}' for j in range(60))}"))
    assert max(len(members) for buckets in index._buckets for members in buckets.values()) <= 64
    assert not index.holds(grams.of(" ".join(f"{a}{b}" for a, b in pairwise(LONG))))
