from __future__ import annotations

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.sources.draw import draw, overlap_with_held_out
from selfalign.sources.rouge import rouge_l, words
from selfalign.types import Prompt


def make_prompt(text: str, prompt_id: str | None = None) -> Prompt:
    return Prompt(prompt_id or text, 0, "train", text, "en", "", "test", None, None, (), "[]")


def make_pool(count: int) -> list[Prompt]:
    return [make_prompt(f"p{i}") for i in range(count)]


def ids(prompts: list[Prompt]) -> list[str]:
    return [prompt.prompt_id for prompt in prompts]


def test_every_prompt_is_used_once_before_any_is_used_again() -> None:
    rounds = [ids(draw(make_pool(10), 4, round, seed=1)) for round in range(1, 6)]
    drawn = [prompt_id for members in rounds for prompt_id in members]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == sorted(ids(make_pool(10)))
    assert drawn[:10] != drawn[10:]


@given(st.integers(1, 12), st.integers(1, 15), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_round_never_holds_a_prompt_twice(count: int, per_round: int, round: int, seed: int) -> None:
    pool = make_pool(count)
    drawn = ids(draw(pool, per_round, round, seed))
    assert len(drawn) == len(set(drawn)) == min(count, per_round)
    assert drawn == ids(draw(pool[::-1], per_round, round, seed))


def test_seed_and_round_matter() -> None:
    pool = make_pool(40)
    assert draw(pool, 8, 1, 0) != draw(pool, 8, 1, 1)
    assert not set(ids(draw(pool, 8, 1, 0))) & set(ids(draw(pool, 8, 5, 0)))
    assert draw([], 8, 1, 0) == []


def test_overlaps_are_found() -> None:
    train = [make_prompt("Write a poem about cats"), make_prompt("Name three rivers"), make_prompt("???", "same")]
    held = [make_prompt("write a poem about dogs"), make_prompt("!!!", "same"), make_prompt("Boil an egg")]
    hits = overlap_with_held_out(train, held, 0.7)
    assert [(a.text, b.text, score) for a, b, score in hits] == [
        ("???", "!!!", 1.0),
        ("Write a poem about cats", "write a poem about dogs", 0.8),
    ]
    assert [score for *_, score in overlap_with_held_out(train, held, 0.8)] == [1.0]
    assert overlap_with_held_out([], held, 0.7) == []


def test_the_bound_spares_no_pair() -> None:
    rng = random.Random(0)
    pools = [
        [make_prompt(" ".join(rng.choices("abcdefgh", k=rng.randint(1, 9))), f"{side}{i}") for i in range(40)]
        for side in "th"
    ]
    expected = {
        (a.prompt_id, b.prompt_id) for a in pools[0] for b in pools[1] if rouge_l(words(a.text), words(b.text)) > 0.6
    }
    assert {(a.prompt_id, b.prompt_id) for a, b, _ in overlap_with_held_out(pools[0], pools[1], 0.6)} == expected


def test_it_is_fast_enough_for_every_start() -> None:
    rng = random.Random(1)
    vocabulary = [f"w{i}" for i in range(400)]
    weights = [1 / (i + 1) for i in range(400)]
    train, held = (
        [
            make_prompt(" ".join(rng.choices(vocabulary, weights, k=rng.randint(8, 60))), f"{side}{i}")
            for i in range(count)
        ]
        for side, count in (("t", 500), ("h", 400))
    )
    start = time.process_time()
    overlap_with_held_out(train, held, 0.7)
    assert time.process_time() - start < 3
