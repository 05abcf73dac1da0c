"""Two processes on one file, and processes that die on it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfalign.store.store import Store

_BATCHES = 120
_ROWS = 20
_WHOLE = (
    "select e.subject_id as batch, count(c.candidate_id) as n from events e "
    "left join candidates c on c.engine = e.subject_id group by all"
)

_WRITER = f"""
import sys
from pathlib import Path
from selfalign.store.store import Store
from tests.store.rows import candidate, event
store = Store(Path(sys.argv[1]))
first, last = int(sys.argv[2]), int(sys.argv[3])
for batch in range(first, last):
    rows = [candidate(f"{{batch}}-{{i}}", engine=str(batch)) for i in range({_ROWS})]
    store.insert([event(f"e{{batch}}", subject_id=str(batch)), *rows])
"""

_READER = f"""
import sys, time
from pathlib import Path
from selfalign.store.store import Store
store = Store(Path(sys.argv[1]))
longest = reads = 0
while True:
    started = time.monotonic()
    found = store.query({_WHOLE!r})
    longest, reads = max(longest, time.monotonic() - started), reads + 1
    assert set(found["n"].to_pylist()) <= {{{_ROWS}}}, found
    if found.num_rows == {_BATCHES}:
        break
    time.sleep(0.1)
print(f"{{reads}} {{longest:.3f}}")
"""


_PACED_WRITER = """
import statistics, sys, time
from pathlib import Path
from selfalign.store.store import Store
from tests.store.rows import candidate
store, stop, undisturbed = Store(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
delays = []
while not stop.exists():
    rows = [candidate(f"{len(delays)}-{i}", n_tokens=i) for i in range(64)]
    started = time.monotonic()
    store.insert(rows)
    delays.append(time.monotonic() - started)
    if len(delays) == undisturbed:
        print("undisturbed", flush=True)
    time.sleep(max(0.0, 0.05 - delays[-1]))
print(*(statistics.median(part) for part in (delays[:undisturbed], delays[undisturbed:])), max(delays), len(delays))
"""

_ASKER = """
import statistics, sys, time
from pathlib import Path
from selfalign.store.sql import read_sql
path, queries = Path(sys.argv[1]), int(sys.argv[2])
asked = ["select round, count(*) n from candidates group by round", "select * from round_summary",
         "select * from length_drift", "select text from candidates order by candidate_id limit 5"]
waits = []
for number in range(queries):
    started = time.monotonic()
    assert read_sql(path, asked[number % len(asked)]).num_columns
    waits.append(time.monotonic() - started)
    time.sleep(0.02)
print(statistics.median(waits), max(waits))
"""

#: Queries in all. For figures worth quoting: QUERIES=1000, on a machine that does nothing else.
_QUERIES = int(os.environ.get("QUERIES", "100"))
_ASKERS = 2


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout: float = 240) -> str:
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()  # nothing is left behind; without effect on one that has ended
    assert process.returncode == 0, errors
    return output


def test_a_reader_gets_in_between_batches_and_sees_only_whole_ones(store: Store, capsys) -> None:  # type: ignore[no-untyped-def]
    started = time.monotonic()
    writer, reader = start(_WRITER, store.path, 0, _BATCHES), start(_READER, store.path)
    finish(writer)
    written = time.monotonic() - started
    reads, longest = finish(reader).split()
    with capsys.disabled():
        print(f" [{_BATCHES} batches in {written:.1f} s beside {reads} reads, longest read {longest} s]", end="")
    assert int(reads) > 10
    assert float(longest) < 10  # a batch takes some 50 ms; a starved reader would wait for the whole run


def test_no_query_fails_beside_a_writer_and_batches_are_hardly_held_up(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put_round(1, status="running")
    stop = tmp_path / "stop"
    writer = start(_PACED_WRITER, store.path, stop, min(_QUERIES // 4, 100))
    assert writer.stdout
    assert writer.stdout.readline() == "undisturbed\n"
    askers = [start(_ASKER, store.path, _QUERIES // _ASKERS) for _ in range(_ASKERS)]
    try:
        waits = [[float(figure) for figure in finish(asker, timeout=max(240, _QUERIES)).split()] for asker in askers]
    finally:
        stop.touch()
    alone, beside, longest, batches = (float(figure) for figure in finish(writer).split())
    with capsys.disabled():
        print(
            f" [{_QUERIES} queries, {batches:.0f} batches: median batch {alone * 1e3:.0f} ms alone, {beside * 1e3:.0f} ms "
            f"beside readers (longest {longest:.2f} s); median query {max(w[0] for w in waits) * 1e3:.0f} ms, longest "
            f"{max(w[1] for w in waits):.2f} s]",
            end="",
        )
    # A batch waits for the queries that came before it, one an asker. On a machine that others keep busy a
    # query alone may take longer than 0.1 s.
    assert beside - alone < max(0.1, *(_ASKERS * median for median, _ in waits))


def test_kill_9_of_a_writer_leaves_whole_batches(store: Store) -> None:
    done = 0
    for seed in range(5):
        writer = start(_WRITER, store.path, done, 10_000)
        _wait_for_batch(store, done)
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        writer.kill()
        writer.communicate()
        found = store.query(_WHOLE)
        assert set(found["n"].to_pylist()) == {_ROWS}
        assert sorted(int(batch) for batch in found["batch"].to_pylist()) == list(range(found.num_rows))
        done = found.num_rows
    finish(start(_WRITER, store.path, 0, done))
    assert store.query(_WHOLE).num_rows == done


def _wait_for_batch(store: Store, done: int) -> None:
    deadline = time.monotonic() + 60
    while store.query("select count(*) as n from events")["n"].to_pylist()[0] <= done:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_creation_leaves_no_half_made_store(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from selfalign.store.store import Store; print('go', flush=True); "
        "Store(Path(sys.argv[1])).create()"
    )
    for attempt in range(6):
        path = tmp_path / str(attempt) / "store.duckdb"
        path.parent.mkdir()
        process = start(script, path)
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.02 * attempt)
        process.kill()
        process.communicate()
        Store(path).create()
        assert Store(path).get_run() is None
