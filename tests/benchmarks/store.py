"""The store at size: rows in, the lineage of one pair, the summary of rounds; plain DuckDB beside it.

The large store is made by SQL in the temporary folder (7 GB at 10 million candidates) and deleted afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measure, Row, Side, Stopwatch, paired, ratios

CANDIDATES = 10_000_000
#: Rows that go in, and rows of a batch: what a stage commits at once on a CPU, and on a GPU.
ROWS_IN, BATCHES = 20_000, (256, 10_000)
_TEXT = "The quick brown fox jumps over the lazy dog, and then goes on for a while about it. " * 8
_ROUNDS, _SAMPLES, _HELD_OUT = 10, 8, 1000


def rows(work: Path, runs: int, candidates: int = CANDIDATES) -> list[Row]:
    """The table's lines about the store."""
    found = []
    for batch in BATCHES:
        mine, plain = paired(
            [
                Side(f"the store, {batch} rows a commit", "store:insert", {"batch": batch}),
                Side("DuckDB from Arrow", "store:insert_plainly", {"batch": batch}),
            ],
            runs,
        )
        found.append(ratios(f"store, rows in, {batch:,} a commit, against plain DuckDB", mine, plain, "rows/s"))
        if batch == BATCHES[-1]:
            found.append(_held(f"store, rows in, {batch:,} a commit", mine, "rows/s", 200_000.0, least=True))
    with large_store(candidates) as path:
        for name, function, limit in (
            ("lineage of a pair", "store:lineage", 100.0),
            ("round_summary", "store:round_summary", 1000.0),
        ):
            ((*measures,),) = paired([Side(name, function, {"path": str(path)})], runs)
            found.append(_held(f"store, {name} among {candidates:,} candidates", measures, "ms", limit, least=False))
    return found


def _held(name: str, measures: list[Measure], unit: str, limit: float, *, least: bool) -> Row:
    """A figure against a limit that it must reach (``least``), or stay below; the peer is the limit."""
    by = (lambda m: m.rate) if least else (lambda m: m.seconds / m.units * 1000)
    bound = [Measure(limit, 1.0) if least else Measure(1.0, limit / 1000) for _ in measures]
    return ratios(name, measures, bound, unit, "at least 1.0" if least else "at most 1.0", "the peer is the goal", by)


# -- rows in ------------------------------------------------------------------------------------------


def insert(batch: int, count: int = ROWS_IN) -> Measure:
    """As a stage's batches come in: Arrow tables, each in a transaction of its own."""
    from selfalign.store.store import Store

    tables = [_table(first, batch) for first in range(0, count, batch)]
    with _folder() as folder:
        store = Store(folder / "store.duckdb")
        store.create()
        store.insert_arrow("candidates", _table(-batch, batch))
        watch = Stopwatch()
        for table in tables:
            with store.write() as transaction:
                transaction.insert_arrow("candidates", table)
        watch.stop()
    return watch.measure(len(tables) * batch)


def insert_plainly(batch: int, count: int = ROWS_IN) -> Measure:
    """The same tables into the same columns, by one open connection: no ids are kept unique, no digests made."""
    import duckdb

    tables = [_table(first, batch) for first in range(0, count, batch)]
    with _folder() as folder:
        connection = duckdb.connect(str(folder / "plain.duckdb"))
        incoming = _table(-batch, batch)  # DuckDB reads it by name
        connection.execute("CREATE TABLE candidates AS SELECT * FROM incoming")
        watch = Stopwatch()
        for incoming in tables:  # noqa: B007  # as above
            connection.execute("INSERT INTO candidates BY NAME SELECT * FROM incoming")
        watch.stop()
        connection.close()
    return watch.measure(len(tables) * batch)


def _table(first: int, count: int) -> Any:
    from selfalign.identity import content_id
    from selfalign.store.arrow import to_table
    from selfalign.types import Candidate

    made = []
    for i in range(first, first + count):
        identity = content_id("candidate", i)
        made.append(
            Candidate(
                identity, content_id("prompt", i // 4), 1, "train", i % 4, "weights", "transformers", 0.8, 0.95, 0, 256,
                i + 10**6, (identity * 3 + _TEXT)[:600], tuple(range(i % 97, i % 97 + 140)), 140, 60, "stop", 2, -123.4,
            )
        )  # fmt: skip
    return to_table(made)


# -- at size ------------------------------------------------------------------------------------------


def lineage(path: str) -> Measure:
    """Both sides of one pair, from the middle of the run; the connection is open already."""
    from selfalign.store.store import Store

    with Store(Path(path)).read() as connection:
        pair = connection.execute("SELECT pair_id FROM pairs WHERE round = ? LIMIT 1", [_ROUNDS // 2]).fetchall()[0][0]
        watch = Stopwatch()
        found = connection.execute("SELECT * FROM lineage WHERE pair_id = ?", [pair]).fetchall()
        watch.stop()
    assert len(found) == 2 and all(len(row[7]) == 1 for row in found)
    return watch.measure(1)


def round_summary(path: str, rounds: int = _ROUNDS) -> Measure:
    from selfalign.store.store import Store

    with Store(Path(path)).read() as connection:
        watch = Stopwatch()
        found = connection.execute("SELECT * FROM round_summary").fetchall()
        watch.stop()
    assert len(found) == rounds + 1
    return watch.measure(1)


@contextmanager
def large_store(candidates: int, rounds: int = _ROUNDS) -> Iterator[Path]:
    """A store of ``rounds`` rounds with ``candidates`` training candidates, a judgement of each, a pair a prompt.

    Rows lie as rounds write them: round by round, in an order of prompts that has nothing to do with ids.
    """
    from selfalign.store.store import Store

    with _folder() as folder:
        path = folder / "store.duckdb"
        store = Store(path)
        store.create()
        for statement in _fill(candidates, rounds):
            with store.write() as transaction:
                transaction.execute(statement)
        os.sync()  # else gigabytes are still being written to the disk while the views are measured
        yield path


def _fill(candidates: int, rounds: int) -> Iterator[str]:
    prompts = candidates // rounds // _SAMPLES
    yield "INSERT INTO runs (run, seed, config, config_hash, environment, version) VALUES ('large', 1, '{}', '', '{}', '')"
    for t in range(rounds + 1):
        yield f"INSERT INTO rounds (round, weights_hash, status) VALUES ({t}, 'w{t}', 'done')"
    yield from _answers(0, "held_out", _HELD_OUT, 1)
    for t in range(1, rounds + 1):
        yield (
            f"INSERT INTO prompts (prompt_id, round, split, text, language, category, origin, instruction_id_list, kwargs)"
            f" SELECT {_id('prompt', t, 'i')}, {t}, 'train', 'Write something about ' || i, 'en', '', 'sql', [], '[]'"
            f" FROM range({prompts}) AS r(i)"
        )
        yield from _answers(t, "train", prompts, _SAMPLES)
        yield from _answers(t, "held_out", _HELD_OUT, 1)
        yield (
            "INSERT INTO pairs (pair_id, prompt_id, round, chosen_id, rejected_id, chosen_score, rejected_score, margin,"
            f" judge, builder, n_votes, weight, chosen_tokens, rejected_tokens) SELECT {_id('pair', t, 'i')}, {_id('prompt', t, 'i')}, {t},"
            f" {_id('train', t, f'i * {_SAMPLES}')}, {_id('train', t, f'i * {_SAMPLES} + 1')}, 4, 2, 2, 'rubric_logits',"
            f" 'max_min', 1, 1, 100 + i * {_SAMPLES} % 80, 101 + i * {_SAMPLES} % 80 FROM range({prompts}) AS r(i)"
        )


def _answers(round: int, split: str, prompts: int, samples: int) -> Iterator[str]:
    prompt = _id("prompt" if split == "train" else "held", round if split == "train" else 0, f"(i // {samples})")
    numbers = f"(SELECT i FROM range({prompts * samples}) AS r(i) ORDER BY hash(i // {samples}))"
    yield (
        "INSERT INTO candidates (candidate_id, prompt_id, round, split, sample_idx, weights_hash, engine, temperature,"
        " top_p, top_k, max_tokens, seed, text, token_ids, n_tokens, n_prompt_tokens, finish_reason, logprob)"
        f" SELECT {_id(split, round, 'i')}, {prompt}, {round}, '{split}', i % {samples}, 'w{round}', 'sql', 0.8, 0.95, 0,"
        f" 256, i, repeat(md5(i::VARCHAR), 18), range(i % 50, i % 50 + 140), 100 + i % 80, 60, 'stop', -100 FROM {numbers}"
    )
    yield (
        "INSERT INTO judgements (judgement_id, candidate_id, round, judge, judge_hash, sample_idx, score, outcome, raw,"
        f" detail) SELECT {_id('judgement' + split, round, 'i')}, {_id(split, round, 'i')}, {round}, 'rubric_logits', 'h',"
        f" 0, i % 6, 'ok', '', '{{}}' FROM {numbers}"
    )


def _id(kind: str, round: int, number: str) -> str:
    """SQL for an id as content_id makes them: hexadecimal digits of a hash."""
    return f"md5('{kind} {round} ' || ({number}))"


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="selfalign-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def summary_by_rounds(rounds: int, candidates: int = 10_000) -> Measure:
    """round_summary of a store of ``rounds`` rounds with ``candidates`` each; for growth.py."""
    with large_store(candidates * rounds, rounds) as path:
        return round_summary(str(path), rounds)
