from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from selfalign.errors import StoreError
from selfalign.store.arrow import arrow_schema
from selfalign.store.digests import NEVER_ARCHIVED
from selfalign.store.schema import MIGRATIONS, SCHEMA, VIEWS, find_migrations, known_version
from selfalign.store.store import Store, read_sql
from selfalign.types import TABLES, Prompt
from tests.store.rows import prompt

_SQL_TYPES = {
    "string": {"VARCHAR"},
    "int64": {"INTEGER", "BIGINT"},
    "double": {"DOUBLE"},
    "bool": {"BOOLEAN"},
    "list<item: string>": {"VARCHAR[]"},
    "list<item: double>": {"DOUBLE[]"},
    "list<item: int32>": {"INTEGER[]"},
}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_columns_are_the_dataclass(store: Store, kind: type) -> None:
    columns = store.query(
        "select column_name, data_type, is_nullable from information_schema.columns where table_name = ? "
        "and column_name not in ('created_at', 'digest') order by ordinal_position",
        (TABLES[kind],),
    ).to_pylist()
    assert [c["column_name"] for c in columns] == [f.name for f in fields(kind)]
    for column, field in zip(columns, arrow_schema(kind), strict=True):
        assert column["data_type"] in _SQL_TYPES[str(field.type)], column
        assert (column["is_nullable"] == "YES") == field.nullable, column


def test_every_column_has_a_comment() -> None:
    body = re.sub(r"--.*\n\s*CHECK.*?--", "--", SCHEMA.read_text())
    for line in body.splitlines():
        if re.match(r"    [a-z_]+ [A-Z]", line) and not line.rstrip().endswith("NOT NULL"):
            assert " -- " in line, line


def test_tables_and_views_are_those_of_the_design(store: Store) -> None:
    found = store.query("select table_name, table_type from information_schema.tables").to_pylist()
    tables = {row["table_name"] for row in found if row["table_type"] == "BASE TABLE"}
    assert tables == {
        "schema_version", "runs", "rounds", "stages", "prompts", "candidates", "judgements", "gold_judgements",
        "selections", "pairs", "unary_labels", "rankings", "lessons", "meta_judgements", "judgement_pairs", "replays",
        "reviews", "overrides",
        "checkpoints",
        "evaluations", "events", "branches",
        *(table for table in tables if table.startswith("archived_")),
    }  # fmt: skip
    assert {table.removeprefix("archived_") for table in tables if table.startswith("archived_")} == {
        "rounds", "stages", *(set(TABLES.values()) - NEVER_ARCHIVED),
    }  # fmt: skip
    views = {row["table_name"] for row in found if row["table_type"] == "VIEW"}
    assert views == {path.stem for path in VIEWS.glob("*.sql")}
    assert views >= {"pair_text", "round_summary", "judge_health", "lineage", "yields"}


def test_any_duckdb_opens_the_file(store: Store) -> None:
    with duckdb.connect(str(store.path)) as connection:
        tags = connection.execute("select tags from duckdb_databases() where database_name = 'store'").fetchall()[0][0]
    assert tags["storage_version"].startswith("v1.5")


def test_create_leaves_one_file_and_can_be_repeated(store: Store) -> None:
    store.insert([prompt()])
    store.create()
    assert [path.name for path in store.path.parent.iterdir()] == ["store.duckdb"]
    assert store.rows(Prompt) == [prompt()]


def test_an_odd_path_is_no_injection(tmp_path: Path) -> None:
    store = Store(tmp_path / "it's; drop.duckdb")
    store.create()
    assert store.insert([prompt()]) == 1


def test_a_view_that_changed_is_refreshed(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute("create or replace view yields as select 1 as stale")
    store.create()
    assert store.query("select * from yields").column_names == ["round", "reason", "prompts"]


#: Version of a store made by this program.
TODAY = known_version(find_migrations(MIGRATIONS))


# -- migrations ---------------------------------------------------------------------------------------


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Today's migrations and two that are still to come."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    (folder / f"{TODAY + 1:04d}_mood.sql").write_text("ALTER TABLE prompts ADD COLUMN mood VARCHAR; -- new\n")
    (folder / f"{TODAY + 2:04d}_fill.sql").write_text("UPDATE prompts SET mood = 'calm' WHERE mood IS NULL;\n")
    return folder


def versions(store: Store) -> list[int]:
    return list(store.query("select version from schema_version order by version")["version"].to_pylist())


def test_an_older_store_is_migrated_once(store: Store, migrations: Path) -> None:
    store.insert([prompt()])
    newer = Store(store.path, migrations=migrations)
    newer.create()
    newer.create()
    assert versions(newer) == list(range(1, TODAY + 3))
    assert newer.query("select mood from prompts")["mood"].to_pylist() == ["calm"]
    assert newer.rows(Prompt) == [prompt()]


def test_a_new_store_gets_every_migration(tmp_path: Path, migrations: Path) -> None:
    store = Store(tmp_path / "store.duckdb", migrations=migrations)
    store.create()
    assert versions(store) == list(range(1, TODAY + 3))


def test_a_migration_that_fails_changes_nothing(store: Store, migrations: Path) -> None:
    (migrations / f"{TODAY + 2:04d}_fill.sql").write_text(
        "UPDATE prompts SET mood = 'x'; SELECT no_such_column FROM prompts;"
    )
    newer = Store(store.path, migrations=migrations)
    with pytest.raises(duckdb.BinderException):
        newer.create()
    (migrations / f"{TODAY + 2:04d}_fill.sql").unlink()
    assert versions(Store(store.path, migrations=migrations)) == list(range(1, TODAY + 2))


def test_a_newer_store_is_refused(store: Store, migrations: Path) -> None:
    Store(store.path, migrations=migrations).create()
    before = store.path.read_bytes()
    for use in (
        Store(store.path).create,
        lambda: Store(store.path).rows(Prompt),
        lambda: Store(store.path).insert([prompt()]),
    ):
        with pytest.raises(StoreError, match=f"version {TODAY + 2}, this program knows {TODAY}; upgrade") as raised:
            use()
        assert "\n" not in str(raised.value)
    assert store.path.read_bytes() == before


def test_an_older_store_is_not_used_before_it_is_migrated(store: Store, migrations: Path) -> None:
    with pytest.raises(StoreError, match=f"version {TODAY}, this program writes {TODAY + 2}; 'selfalign run'"):
        Store(store.path, migrations=migrations).insert([prompt()])


def test_gaps_and_names_of_migrations_are_checked(migrations: Path) -> None:
    assert [m.version for m in find_migrations(migrations)] == list(range(2, TODAY + 3))
    gap = migrations / f"{TODAY + 4:04d}_gap.sql"
    gap.write_text("")
    with pytest.raises(ValueError, match="without gaps"):
        find_migrations(migrations)
    gap.rename(migrations / "four.sql")
    with pytest.raises(ValueError, match="NNNN_name"):
        find_migrations(migrations)
    find_migrations(MIGRATIONS)


# -- files that are no store --------------------------------------------------------------------------


def _text_file(path: Path) -> None:
    path.write_text("hello " * 5000)


def _other_database(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table mine (x integer)")


def _empty_file(path: Path) -> None:
    path.touch()


def _cut_short(path: Path) -> None:
    Store(path).create()
    path.write_bytes(path.read_bytes()[:6000])


def _scribbled(path: Path) -> None:
    Store(path).create()
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(reversed(data[4096:12288]))
    path.write_bytes(data)


@pytest.mark.parametrize("make", [_text_file, _other_database, _empty_file, _cut_short, _scribbled])
def test_foreign_and_damaged_files_are_named_and_left_alone(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "store.duckdb"
    make(path)
    before = path.read_bytes()
    for use in (
        lambda: Store(path).create(),
        lambda: Store(path).insert([prompt()]),
        lambda: Store(path).rows(Prompt),
    ):
        with pytest.raises(StoreError, match=re.escape(str(path))) as raised:
            use()
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["store.duckdb"]


def test_no_file_is_not_made_by_using_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    for use in (lambda: store.rows(Prompt), lambda: store.insert([prompt()]), lambda: read_sql(store.path, "select 1")):
        with pytest.raises(StoreError, match="no store here"):
            use()
    assert not list(tmp_path.iterdir())


def test_the_log_of_a_lost_store_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "store.duckdb.wal").write_bytes(b"x")
    with pytest.raises(StoreError, match="belongs to a store that is gone"):
        Store(tmp_path / "store.duckdb").create()
