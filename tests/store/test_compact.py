from __future__ import annotations

import threading
import time
from pathlib import Path

import duckdb
import pytest

from selfalign.errors import StoreError
from selfalign.store import compact as module
from selfalign.store.compact import compact, reclaimable_bytes
from selfalign.store.store import Store
from selfalign.types import Event


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that had many rows and has few."""
    made = Store(tmp_path / "store.duckdb")
    made.create()
    made.insert([Event(f"e{i}", 1, "x", "note", None, f"{i} " + "word " * 200, "{}") for i in range(4000)])
    with made.write() as transaction:
        transaction.execute("delete from events where event_id not in ('e1', 'e2')")
    with duckdb.connect(str(made.path)) as connection:
        connection.execute("checkpoint")
    return made


def schema(store: Store) -> list[dict[str, object]]:
    return store.query(
        "select table_name, column_name, data_type, column_default, is_nullable from information_schema.columns "
        "order by all"
    ).to_pylist()


def test_the_file_shrinks_and_nothing_else_changes(store: Store) -> None:
    before, size, expected = schema(store), store.path.stat().st_size, store.query("select * from events order by all")
    assert reclaimable_bytes(store.path) > 0
    freed = compact(store.path)
    assert freed > 0
    assert store.path.stat().st_size == size - freed
    assert schema(store) == before
    assert store.query("select * from events order by all").equals(expected)
    store.insert([Event("e1", 1, "x", "note", None, "again", "{}")])
    assert store.query("select count(*) n from events").to_pylist() == [{"n": 2}], "the primary key is still there"
    assert [path.name for path in store.path.parent.iterdir()] == ["store.duckdb"]
    Store(store.path).create()


def test_a_copy_that_is_not_whole_is_thrown_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    size = store.path.stat().st_size
    counts = module._counts
    monkeypatch.setattr(
        module, "_counts", lambda c, name: {**counts(c, name), **({"events": 1} if name == "compacted" else {})}
    )
    with pytest.raises(StoreError, match="not whole"):
        compact(store.path)
    assert store.path.stat().st_size == size
    assert store.query("select count(*) n from events").to_pylist() == [{"n": 2}]
    assert [path.name for path in store.path.parent.iterdir()] == ["store.duckdb"]


def test_readers_wait_and_find_every_row(store: Store) -> None:
    found: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found.append(Store(store.path).query("select count(*) n from events").to_pylist()[0]["n"])
            time.sleep(0.01)

    reader = threading.Thread(target=read)
    reader.start()
    compact(store.path)
    stop.set()
    reader.join()
    assert set(found) == {2}
