"""A snapshot reads one moment of a store, writes nothing, and gives the run its turn."""

from __future__ import annotations

import time

import pytest

from selfalign.errors import BadInput, StoreError
from selfalign.store.snapshot import select, snapshot
from selfalign.store.store import Store
from tests.store.rows import prompt

#: Takes minutes.
_ENDLESS = "SELECT count(*) AS n FROM range(100000) a, range(100000) b, range(100000) c WHERE hash(a.range, b.range, c.range) = 1"


def test_values_are_bound(store: Store) -> None:
    store.insert([prompt("p1"), prompt("p2")])
    with snapshot(store.path) as found:
        assert found.rows("SELECT prompt_id FROM prompts WHERE prompt_id = $id", {"id": "p2"}) == [{"prompt_id": "p2"}]


def test_a_view_that_the_store_has_not_is_lent_and_not_kept(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute("DROP VIEW yield_funnel")
    store.insert([prompt()])
    with snapshot(store.path) as found:
        assert found.columns("yield_funnel")[:2] == ["round", "step"]
        assert found.rows("SELECT name FROM yield_funnel") == [{"name": "prompts"}]
    assert store.query("SELECT 1 FROM duckdb_views() WHERE view_name = 'yield_funnel'").num_rows == 0


def test_what_a_store_cannot_have_has_no_columns(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute("DROP VIEW gate_decisions")
        transaction.execute("DROP TABLE archived_events")
    with snapshot(store.path) as found:
        assert found.columns("gate_decisions") == []


def test_columns_that_a_store_has_not_are_null() -> None:
    assert select(["a"], ["a", 'b"'], "t") == 'SELECT "a", NULL AS "b""" FROM "t"'


def test_a_reader_that_takes_long_gives_way(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(BadInput, match="would hold up the run"), snapshot(store.path, max_seconds=0.3) as found:
        found.rows(_ENDLESS)
    assert time.monotonic() - started < 20
    store.insert([prompt()])


def test_no_store(store: Store) -> None:
    with pytest.raises(StoreError, match="no store here"), snapshot(store.path.with_name("none.duckdb")):
        pass
