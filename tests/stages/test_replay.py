"""Which rows of earlier rounds are drawn, and that others of the store have no say in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.progress import Silent
from selfalign.stages import replay
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.types import UnaryLabel
from selfalign.workspace import Workspace
from tests.store.rows import judgement_pair, pair, ranking

LABELS = {"pair": "threshold_labels", "train": "kto"}


def pairs(round: int, n: int) -> list[Any]:
    return [pair(f"{round}-{i:03}", f"c{i}", f"d{i}", round=round) for i in range(n)]


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 2**63 - 1), st.integers(2, 9))
def test_a_draw_is_a_share_of_the_rows_whatever_their_order(n: int, share: float, seed: int, round: int) -> None:
    rows = pairs(1, n)
    drawn = replay.drawn(rows, share, seed, round)
    assert len(set(drawn)) == len(drawn) <= share * n + 1e-6
    assert len(drawn) > share * n - 1
    assert replay.drawn(rows[::-1], share, seed, round) == drawn
    assert set(replay.drawn(rows, share / 2, seed, round)) <= set(drawn), "a smaller share is a part of a larger one"


def test_draws_of_other_rounds_and_seeds_differ() -> None:
    rows = pairs(1, 40)
    draws = {tuple(row.pair_id for row in replay.drawn(rows, 0.5, seed, round)) for seed in (1, 2) for round in (2, 3)}
    assert len(draws) == 4
    assert [len(replay.drawn(pairs(1, 100), share, 0, 2)) for share in (0.29, 0.3, 0.15, 1.0)] == [29, 30, 15, 100]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "run" / "store.duckdb")
    found.path.parent.mkdir()
    found.create()
    return found


def opened(store: Store, **settings: Any) -> RunContext:
    config = validate_config({"name": "x", "seed": 5, **settings}, "t")
    return RunContext(config, Workspace(store.path.parent), store, Silent())


def taken(context: RunContext, round: int) -> set[tuple[str, int, str]]:
    rows = replay.replayed(context, round)
    return {(one.kind, one.from_round, one.example_id) for one in replay.records(round, rows)}


def test_only_what_the_trainer_takes_and_only_of_those_rounds(store: Store) -> None:
    store.insert([*pairs(1, 2), *pairs(2, 2), *pairs(3, 2), judgement_pair("jp", round=2), ranking()])
    last = {"policy": {"data": {"last": 2}}}
    assert taken(opened(store, **last), 3) == {
        ("pair", 2, "2-000"), ("pair", 2, "2-001"), ("judgement_pair", 2, "jp"),
    }  # fmt: skip
    assert taken(opened(store, policy={"data": "all"}, train="pro", pair="ranking"), 3) == {("ranking", 1, "r1")}
    assert taken(opened(store), 3) == set()
    assert taken(opened(store, **last, teach={"rounds": [3]}), 3) == set(), "lessons are of their own round"


def test_of_labels_only_the_wanted_ones_are_imitated(store: Store) -> None:
    store.insert([UnaryLabel(f"l{i}", "p1", 1, f"c{i}", i < 2, 1.0, "b", 1.0) for i in range(4)])
    everything = {"policy": {"data": "all"}}
    assert len(taken(opened(store, **everything, **LABELS), 2)) == 4
    assert {one for _, _, one in taken(opened(store, **everything, pair="best_of", train="sft"), 2)} == {"l0", "l1"}


def test_what_a_training_depends_on_is_what_made_the_rows(store: Store) -> None:
    context = opened(store, policy={"data": {"replay": [0.5]}})
    assert replay.made_of(context, 2) == [[0.5, []]]
    for round in (1, 2):
        store.start_stage(round, "pair", f"made{round}")
        store.finish_stage(round, "pair", f"made{round}", rows_in=1, rows_out=1)
    store.start_stage(1, "train", "no matter")
    assert replay.made_of(context, 2) == [[0.5, ["made1"]]]
    assert replay.made_of(context, 1) == replay.made_of(opened(store), 2) == []


def test_a_row_is_replayed_by_each_round_once(store: Store) -> None:
    store.insert(pairs(1, 3))
    context = opened(store, policy={"data": "all"})
    for round in (2, 3, 2):
        store.insert(replay.records(round, replay.replayed(context, round)))
    counts = store.query("select round, count(*) as n from replays group by round order by round").to_pylist()
    assert counts == [{"round": 2, "n": 3}, {"round": 3, "n": 3}]
