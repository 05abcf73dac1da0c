"""What a report reads is what the views say, whatever state the run is in."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from selfalign.evaluation.statistics import wilson
from selfalign.report.figures import RunFigures
from selfalign.report.page import render
from selfalign.report.reading import _PARTS, read_runs
from selfalign.reviews import append, make_review
from selfalign.store.sql import read_sql
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.report.made import make_workspace
from tests.store.rows import candidate, evaluation, prompt, ranking, review, unary_label


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Workspace:
    """A run that has not begun."""
    shutil.copy(empty_store, tmp_path / "store.duckdb")
    return Workspace(tmp_path)


def begin(workspace: Workspace, last: int, status: str = "done", **config: Any) -> Store:
    store = Store(workspace.store_path)
    store.put_run("r", seed=1, config=json.dumps(config), config_hash="h", environment="{}", version="0")
    for t in range(last + 1):
        store.put_round(t, status="done" if t < last else status)  # type: ignore[arg-type]
    return store


def read(workspace: Workspace) -> RunFigures:
    return read_runs([workspace], examples=4)[0]


@pytest.mark.parametrize("part", _PARTS)
def test_figures_are_those_of_sql(made: Workspace, figures: RunFigures, part: str) -> None:
    kind = _PARTS[part]
    names = [field.name for field in fields(kind)]
    listed = ", ".join(f'"{name}"' for name in names)
    said = read_sql(made.store_path, f"select {listed} from {kind.view} order by {kind.order}").to_pylist()
    shown = [asdict(row) for row in getattr(figures, part)]
    assert shown
    # The one figure that is no number is none.
    assert shown == [{name: None if row[name] != row[name] else row[name] for name in names} for row in said]


def test_examples_are_of_every_round_with_texts(figures: RunFigures) -> None:
    assert [(e.round, e.key) for e in figures.examples[:4]] == [
        (3, "pair-3-0"), (3, "pair-3-1"), (3, "pair-3-2"), (2, "pair-2-0"),
    ]  # fmt: skip
    first = figures.examples[1]
    assert first.better is not None and first.worse is not None
    assert (first.better.text, first.worse.role) == ("A short answer number 2 of round 3, plain.", "rejected")


def test_held_out_answers_that_changed_are_counted_and_shown(figures: RunFigures) -> None:
    assert [(row.round, row.answers, row.gained, row.lost) for row in figures.flips] == [
        (1, 3, 1, 0), (2, 3, 0, 2), (3, 3, 1, 0),
    ]  # fmt: skip
    assert [(e.round, e.key, e.kind) for e in figures.changes] == [
        (3, "h2", "now passes"), (2, "h0", "no longer passes"), (2, "h1", "no longer passes"), (1, "h1", "now passes"),
    ]  # fmt: skip
    lost = figures.changes[1]
    assert lost.better is not None and lost.worse is not None
    assert (lost.better.role, lost.worse.role) == ("M1, passes", "M2, fails punctuation:no_comma")
    assert lost.better.text.startswith("M1 says") and lost.worse.text.startswith("M2 says")


def test_reviews_are_counted_by_the_word_that_holds_the_inbox_included(made: Workspace, figures: RunFigures) -> None:
    one, two = figures.reviewed
    assert (one.round, one.accepted, one.flipped, one.rejected, one.agreement, one.changed) == (
        1,
        1,
        1,
        0,
        0.5,
        {1: 1, 2: 1},
    )
    share = wilson(1, 2)
    assert (one.agreement_low, one.agreement_high) == (share.low, share.high)
    assert (two.accepted, two.flipped, two.rejected, two.changed) == (1, 0, 1, {})
    assert read_sql(made.store_path, "select count(*) n from reviews").to_pylist() == [{"n": 3}], "one is in the inbox"


def test_a_review_that_was_withdrawn_or_said_again_counts_once(workspace: Workspace) -> None:
    store = begin(workspace, 1)
    store.insert([review("v1", pair_id="a"), review("v2", pair_id="b", decision="reject")])
    for pair_id, decision in (("a", "accept"), ("b", "withdraw")):
        append(workspace.reviews, make_review(pair_id, 1, decision, "", "me", datetime.now(UTC)))  # type: ignore[arg-type]
    (row,) = read(workspace).reviewed
    assert (row.accepted, row.flipped, row.rejected, row.agreement) == (1, 0, 0, 1.0)


def test_a_run_that_has_not_begun(workspace: Workspace) -> None:
    figures = read(workspace)
    assert (figures.about, figures.standing.words) == (None, "no round is done")
    assert "no round has begun yet" in render([figures])


def test_round_0_alone(workspace: Workspace) -> None:
    store = begin(workspace, 0, rounds=2)
    store.insert([evaluation("pass_rate_strict", 0.25, round=0, low=0.2, high=0.3)])
    figures = read(workspace)
    assert figures.standing.words == "round 0 of 2 is done"
    page = render([figures])
    assert 'data-plot="pass_rate_strict"' in page
    assert 'data-plot="pass_rate_delta_vs_m0"' not in page
    assert "No round has trained on pairs, labels or rankings yet." in page


def test_a_round_under_way(workspace: Workspace) -> None:
    store = begin(workspace, 1, "running", rounds=2)
    store.start_stage(1, "judge", "f")
    store.insert([prompt("p1"), prompt("p2"), candidate("c1", "p1")])
    assert read(workspace).standing.words == "round 0 of 2 is done; stopped in round 1, stage judge (running)"
    with workspace.lock():
        figures = read(workspace)
    assert figures.standing.words == "round 0 of 2 is done; at work on round 1, stage judge (running)"
    assert [(step.name, step.prompts) for step in figures.funnel] == [("prompts", 2), ("answered", 1)]
    assert "while the run was at work" in render([figures])


def test_labels_instead_of_pairs(workspace: Workspace) -> None:
    store = begin(workspace, 1)
    store.insert([prompt("p1"), candidate("c1", "p1"), unary_label()])
    (example,) = read(workspace).examples
    assert (example.kind, example.worse, example.prompt) == ("label", None, "text of p1")
    assert example.better is not None and (example.better.role, example.better.text) == ("wanted", "text of c1")
    assert "wanted, score 4" in render([read(workspace)])


def test_rankings_show_their_ends(workspace: Workspace) -> None:
    store = begin(workspace, 1)
    store.insert([prompt("p1"), candidate("c1", "p1"), candidate("c2", "p1", sample_idx=1), ranking()])
    (example,) = read(workspace).examples
    assert example.better is not None and example.worse is not None
    assert (example.better.role, example.worse.role) == ("place 1 of 2", "place 2 of 2")
    assert (example.better.text, example.worse.text) == ("text of c1", "text of c2")
    assert example.margin == pytest.approx(4 - 1 / 3)
    render([read(workspace)])


def test_runs_of_one_name_are_told_apart_by_folder(made: Workspace, tmp_path: Path, empty_store: Path) -> None:
    again = make_workspace(tmp_path, empty_store, rounds=1)
    labels = [figures.label for figures in read_runs([made, again], examples=0)]
    assert labels == [f"made ({made.path})", f"made ({again.path})"]


def test_a_store_of_an_older_version_is_lent_views_and_says_what_it_lacks(tmp_path: Path, empty_store: Path) -> None:
    workspace = make_workspace(tmp_path, empty_store, rounds=1)
    with Store(workspace.store_path).write() as transaction:
        for view in ("yield_funnel", "round_policy", "trained_on", "cost_by_stage", "lineage", "regression_pairs"):
            transaction.execute(f"DROP VIEW {view}")
        transaction.execute("DROP TABLE replays")
        transaction.execute("CREATE OR REPLACE VIEW round_summary AS SELECT round, 'M' || round AS model FROM rounds")
    figures = read(workspace)
    assert [step.name for step in figures.funnel] == ["prompts", "answered", "judged", "paired"]
    assert figures.gaps == ["cost_by_stage", "round_policy"]
    assert [(row.model, row.pass_rate_strict) for row in figures.rounds] == [("M0", None), ("M1", None)]
    assert "does not have: " in render([figures])


def _write(path: Path, stop: Any) -> None:
    store = Store(path)
    number = 0
    while not stop.is_set():
        store.insert([candidate(f"new-{number}-{i}", "p1", sample_idx=i, round=9) for i in range(20)])
        number += 1


def test_a_store_that_is_being_written_is_read_at_one_moment(tmp_path: Path, empty_store: Path) -> None:
    workspace = make_workspace(tmp_path, empty_store, rounds=1)
    stop = multiprocessing.get_context("spawn").Event()
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(workspace.store_path, stop))
    writer.start()
    try:
        deadline = time.monotonic() + 60
        while not _written(workspace) and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(3):
            figures = read(workspace)
            new = [row for row in figures.lengths if row.round == 9]
            diversity = [row for row in figures.diversity if row.round == 9]
            assert new[0].n == diversity[0].candidates
            assert new[0].n % 20 == 0
    finally:
        stop.set()
        writer.join(30)
    assert writer.exitcode == 0


def _written(workspace: Workspace) -> int:
    return int(read_sql(workspace.store_path, "select count(*) n from candidates where round = 9").to_pylist()[0]["n"])
