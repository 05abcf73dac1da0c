from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfalign.errors import StageFailed, StoreError
from selfalign.store.arrow import to_table
from selfalign.store.store import Store, read_sql
from selfalign.types import TABLES, Candidate, Checkpoint, Evaluation, Event, Judgement, Pair, Prompt
from tests.store.rows import (
    candidate,
    checkpoint,
    evaluation,
    event,
    gold_judgement,
    judgement,
    judgement_pair,
    lesson,
    meta_judgement,
    override,
    pair,
    prompt,
    ranking,
    replay,
    review,
    selection,
    unary_label,
)

ONE_OF_EACH: list[Any] = [
    prompt(), candidate(), judgement("j1"), gold_judgement(), selection(), pair("a", "c1", "c2"), unary_label(), ranking(), lesson(),
    meta_judgement(), judgement_pair(), replay(), review(), override(), checkpoint(),
    evaluation("pass_rate_strict", 0.5), event("e1"),
]  # fmt: skip


def test_rows_of_every_class_are_stored_once(store: Store) -> None:
    assert {type(row) for row in ONE_OF_EACH} == set(TABLES)
    assert store.insert(ONE_OF_EACH) == len(ONE_OF_EACH)
    assert store.insert(ONE_OF_EACH) == 0
    for row in ONE_OF_EACH:
        assert store.rows(type(row)) == [row]


@pytest.mark.parametrize("kind", ["prompts", "candidates", "judgements", "pairs"])
def test_repeats_count_once_also_within_a_batch(store: Store, kind: str) -> None:
    rows = {
        "prompts": [prompt("a"), prompt("b"), prompt("a")],
        "candidates": [candidate("a"), candidate("b"), candidate("a")],
        "judgements": [judgement("a"), judgement("b"), judgement("a")],
        "pairs": [pair("a", "1", "2"), pair("b", "1", "3"), pair("a", "1", "2")],
    }[kind]
    assert store.insert(rows) == 2
    assert store.insert(rows) == 0
    assert store.insert_arrow(kind, to_table(rows)) == 0
    assert sorted(store.query(f"select * from {kind}")[0].to_pylist()) == ["a", "b"]


def test_rows_stay_as_first_written_but_figures_and_notes_are_replaced(store: Store) -> None:
    store.insert([candidate(text="first"), evaluation("m", 0.1), event("e", message="old")])
    new = store.insert(
        [candidate(text="second"), evaluation("m", 0.2), evaluation("n", 1.0), event("e", message="new")]
    )
    assert new == 1
    assert [row.text for row in store.rows(Candidate)] == ["first"]
    assert [(row.metric, row.value) for row in store.rows(Evaluation)] == [("m", 0.2), ("n", 1.0)]
    assert [row.message for row in store.rows(Event)] == ["new"]


def test_the_same_prompt_in_two_rounds_and_weights_in_two_rounds(store: Store) -> None:
    assert store.insert([prompt(round=1), prompt(round=2), checkpoint(round=1), checkpoint(round=2)]) == 4


def test_rows_come_in_the_same_order_however_they_were_written(store: Store) -> None:
    rows = [candidate(f"{i:02d}", f"p{i % 3}", sample_idx=i // 3) for i in range(9)]
    store.insert(rows[5:])
    store.insert(rows[:5])
    assert store.rows(Candidate) == sorted(rows, key=lambda row: (row.prompt_id, row.sample_idx))
    assert store.rows(Candidate, "prompt_id = ? and sample_idx > ?", ("p1", 0)) == [rows[4], rows[7]]


def test_a_row_that_breaks_a_rule_is_refused_with_its_batch(store: Store) -> None:
    for bad, why in (
        (judgement("x", outcome="parse_error", score=0.0), "CHECK"),
        (replace(prompt(), text=None), "NOT NULL"),
    ):
        with pytest.raises(StageFailed, match=why) as raised:
            store.insert([candidate(), bad])  # type: ignore[list-item]
        assert "\n" not in str(raised.value)
    assert store.rows(Candidate) == []


def test_only_row_tables_take_arrow(store: Store) -> None:
    with pytest.raises(ValueError, match="not a table of rows"):
        store.insert_arrow("runs", to_table([prompt()]))


# -- transactions -------------------------------------------------------------------------------------


def test_an_error_undoes_the_whole_block(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as transaction:
        transaction.insert([prompt()])
        raise RuntimeError
    assert store.rows(Prompt) == []
    store.insert([prompt()])


def test_reads_and_writes_within_a_block_belong_to_it(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as transaction:
        transaction.insert([prompt()])
        store.insert([candidate()])
        Store(store.path).start_stage(1, "judge", "f")
        assert store.rows(Prompt) == transaction.rows(Prompt) == [prompt()]
        assert transaction.query("select count(*) as n from candidates")["n"].to_pylist() == [1]
        raise RuntimeError
    assert (store.rows(Prompt), store.rows(Candidate), store.stage(1, "judge")) == ([], [], None)


def test_threads_take_turns(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(3):
                Store(store.path).insert([prompt(f"{number}-{i}")])
                store.rows(Prompt)
                read_sql(store.path, "select 1")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(store.rows(Prompt)) == 12


# -- the ledger ---------------------------------------------------------------------------------------


def test_a_stage_from_start_to_end(store: Store) -> None:
    assert store.stage(1, "pair") is None
    store.start_stage(1, "pair", "f")
    started = store.stage(1, "pair")
    assert started and (started.status, started.attempt, started.finished_at) == ("running", 1, None)
    store.fail_stage(1, "pair", "f", detail={"error": "x"})
    store.start_stage(1, "pair", "f")
    store.finish_stage(1, "pair", "f", rows_in=4, rows_out=1, detail={"b": 1, "a": "é"}, rows=[pair("a", "1", "2")])
    done = store.stage(1, "pair")
    assert done and (done.status, done.attempt, done.rows_in, done.rows_out) == ("done", 2, 4, 1)
    assert done.detail == '{"a": "é", "b": 1}'
    assert done.finished_at and done.finished_at >= done.started_at
    assert done.seconds is not None and 0 <= done.seconds < 60
    assert len(store.rows(Pair)) == 1


def test_the_last_started_fingerprint_counts(store: Store) -> None:
    store.start_stage(1, "pair", "z")
    store.finish_stage(1, "pair", "z", rows_in=0, rows_out=0)
    store.start_stage(1, "pair", "a")
    found = store.stage(1, "pair")
    assert found and (found.fingerprint, found.status, found.attempt) == ("a", "running", 1)


def test_rows_and_the_record_of_a_stage_are_one(store: Store) -> None:
    with pytest.raises(ValueError, match="never started"):
        store.finish_stage(1, "pair", "f", rows_in=1, rows_out=1, rows=[pair("a", "1", "2")])
    assert store.rows(Pair) == []


def test_run_and_rounds(store: Store) -> None:
    assert store.get_run() is None
    for seed in (1, 2):
        store.put_run("r", seed=seed, config='{"k": 1}', config_hash="h", environment="{}", version="0.1")
    found = store.get_run()
    assert found and (found["run"], found["seed"], found["config"]) == ("r", 1, '{"k": 1}')
    store.put_round(1, parent_hash="w0", status="running")
    store.put_round(1, weights_hash="w1", trainer="dpo")
    row = store.query("select * from rounds").to_pylist()[0]
    assert (row["parent_hash"], row["weights_hash"], row["status"], row["finished_at"]) == ("w0", "w1", "running", None)
    store.put_round(1, status="done", detail={"gate": "passed"})
    ended = store.query("select * from rounds").to_pylist()[0]
    assert (ended["status"], json.loads(ended["detail"]), ended["trainer"]) == ("done", {"gate": "passed"}, "dpo")
    assert ended["finished_at"] >= ended["started_at"] == row["started_at"]


# -- a store that somebody else holds -----------------------------------------------------------------

_HOLDER = """
    import duckdb, sys
    connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "ro")
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(store: Store, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLDER), str(store.path), request.param],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("holder", ["rw"], indirect=True)
def test_a_held_store_names_the_process_that_holds_it(store: Store, holder: subprocess.Popen[str]) -> None:
    impatient = Store(store.path, write_timeout=0.3, read_timeout=0.3)
    for use in (
        lambda: impatient.insert([prompt()]),
        lambda: impatient.rows(Prompt),
        lambda: read_sql(store.path, "select 1", timeout=0.3),
    ):
        with pytest.raises(StoreError, match=f"process {holder.pid} has held") as raised:
            use()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("holder", ["ro"], indirect=True)
def test_a_reader_stops_writers_but_no_readers(store: Store, holder: subprocess.Popen[str]) -> None:
    store.rows(Prompt)
    with pytest.raises(StoreError, match=str(holder.pid)):
        Store(store.path, write_timeout=0.3).insert([prompt()])


@pytest.mark.parametrize("holder", ["ro"], indirect=True)
def test_a_waiting_writer_goes_on_when_the_file_is_free(store: Store, holder: subprocess.Popen[str]) -> None:
    letting_go = threading.Timer(0.4, lambda: holder.communicate("\n"))
    letting_go.start()
    assert store.insert([prompt()]) == 1
    letting_go.join()


def test_a_connection_of_the_same_process_is_explained(store: Store) -> None:
    with duckdb.connect(str(store.path), read_only=True):
        assert store.rows(Prompt) == []
        with pytest.raises(StoreError, match="already open in this process"):
            store.insert([prompt()])


def test_a_connection_of_the_same_process_is_shared(store: Store) -> None:
    with duckdb.connect(str(store.path)) as own:
        assert store.insert([prompt()]) == 1
        assert own.execute("select count(*) from prompts").fetchall() == [(1,)]
        own.execute("delete from prompts")
    assert store.rows(Prompt) == []


def test_stores_that_are_open_at_once_are_told_apart(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other" / "memory.duckdb")
    other.path.parent.mkdir()
    other.create()
    with store.write() as here, other.write() as there:
        here.insert([prompt()])
        assert there.rows(Prompt) == []
    assert [len(each.rows(Prompt)) for each in (store, other)] == [1, 0]


def test_between_two_uses_the_file_is_free_and_nothing_is_remembered(store: Store) -> None:
    with store.read() as connection:
        connection.execute("create temp table mine as select 1 as x")
        connection.execute("set variable seen = 1")
    moved = store.path.rename(store.path.with_name("moved.duckdb"))
    Store(store.path).create()
    store.insert([prompt()])
    assert [len(Store(path).rows(Prompt)) for path in (store.path, moved)] == [1, 0]
    with store.read() as connection:
        assert connection.execute("select getvariable('seen')").fetchall() == [(None,)]
        with pytest.raises(duckdb.CatalogException):
            connection.execute("select * from mine")


def test_a_query_that_spills_leaves_no_folder(store: Store) -> None:
    with store.read() as connection:
        connection.execute("set memory_limit = '64MB'")
        connection.execute("create temp table big as select i, hash(i)::varchar h from range(3000000) t(i)")
        spilled = list(store.path.parent.glob("*.tmp"))
    assert spilled == [store.path.with_name("store.duckdb.tmp")]
    assert not list(store.path.parent.glob("*.tmp"))
    with store.read() as connection:
        assert connection.execute("select current_setting('memory_limit')").fetchall() != [("61.0 MiB",)]


# -- no space -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_store_stays_usable(small_disk: Path) -> None:
    store = Store(small_disk / "store.duckdb")
    store.create()
    store.insert([prompt()])
    stored = 0
    with pytest.raises(StageFailed, match="disk is full") as raised:
        for batch in range(100):
            incompressible = [
                candidate(
                    f"{batch}-{i}",
                    token_ids=tuple((batch * 7919 + i * 104729 + k * k * 31) % 49151 for k in range(500)),
                )
                for i in range(200)
            ]
            stored += store.insert(incompressible)
    assert "\n" not in str(raised.value)
    assert store.query("select count(*) as n from candidates")["n"].to_pylist() == [stored]
    assert store.rows(Prompt) == [prompt()]
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    assert store.insert([candidate(), judgement("j")]) == 2
    assert store.rows(Judgement) == [judgement("j")]
    assert store.rows(Checkpoint) == []
