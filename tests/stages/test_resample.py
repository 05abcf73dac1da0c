"""The stages ``resample`` and ``pair`` on judged candidates in a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfalign.checks.findings import Query
from selfalign.checks.ledger import ledger
from selfalign.checks.references import references
from selfalign.checks.rules import rules
from selfalign.config import validate_config
from selfalign.errors import BadInput, EmptyStage
from selfalign.evaluation import METRICS
from selfalign.identity import content_id
from selfalign.progress import Silent
from selfalign.rounds import STAGES, fingerprint, run_round_stage, stages_of, takes
from selfalign.stages.context import RunContext
from selfalign.stages.judge import build_judge
from selfalign.store.branches import FIGURES_OF, find_kept, move_to_branch, take_back
from selfalign.store.store import Store
from selfalign.types import Candidate, Evaluation, Event, Pair, Ranking, Row, Selection, UnaryLabel
from selfalign.workspace import Workspace
from tests.store.rows import candidate, judgement, prompt

RSO = {"id": "rso", "accept": 4, "beta": 1.0}


def opened(folder: Path, scores: Sequence[Sequence[float | None]], **changes: Any) -> RunContext:
    """Round 1, judged: a prompt for each of ``scores``, with as many candidates."""
    workspace = Workspace(folder / "run")
    workspace.create()
    data = {"name": "made", "seed": 5, "judge": "verifier", "generate": {"candidates": 64}, "pair": "first_round"}
    context = RunContext(validate_config({**data, **changes}, "test"), workspace, Store(workspace.store_path), Silent())
    judge, store = build_judge(context, 1), context.store
    store.create()
    store.put_round(1, parent_hash="w0", status="running")
    rows: list[Row] = []
    for i, own in enumerate(scores):
        rows.append(prompt(f"p{i}"))
        for j, score in enumerate(own):
            rows.append(candidate(f"p{i}-{j}", f"p{i}", sample_idx=j))
            rows.append(
                judgement(
                    f"j{i}-{j}", f"p{i}-{j}", judge=judge.name, judge_hash=judge.judge_hash, score=score,
                    outcome="parse_error" if score is None else "ok", weights_hash=None,
                )
            )  # fmt: skip
    store.insert(rows)
    for name in ("prompts", "generate", "judge"):
        store.start_stage(1, name, f"f-{name}")
        count = len([row for row in rows if isinstance(row, Candidate)])
        store.finish_stage(
            1, name, f"f-{name}", rows_in=len(scores), rows_out=len(scores) if name == "prompts" else count
        )
    return context


def run(context: RunContext, *names: str) -> None:
    with context.workspace.lock():
        for name in names:
            run_round_stage(context, 1, name)


def query_of(context: RunContext) -> Query:
    return lambda sql, params: context.store.query(sql, params)


MANY = [[float(j % 16) for j in range(64)], [1.0] * 64, [float(j) for j in range(6)], [None, None]]


def test_rows_figures_and_the_line_of_the_ledger(tmp_path: Path) -> None:
    context = opened(tmp_path, MANY, resample=RSO)
    run(context, "resample")
    rows = context.store.rows(Selection, "round = 1")
    assert len(rows) == 64 + 64 + 6 and sum(row.accepted for row in rows) == 12
    stage = context.store.query("select rows_in, rows_out, detail from stages where stage = 'resample'").to_pylist()[0]
    assert (stage["rows_in"], stage["rows_out"]) == (136, 134)
    detail = json.loads(stage["detail"])
    figures = {row.metric: row for row in context.store.rows(Evaluation, "round = 1")}
    assert figures.keys() == set(FIGURES_OF["resample"]) <= METRICS.keys()
    assert {(row.split, row.n) for row in figures.values()} == {("train", 3)}
    # One of 16 scores is the best of p0: sum exp(-d) = (1 - e^-16) / (1 - 1/e) of each 16; all of p1 are; p2 likewise.
    rates = [(1 - 2.718281828459045**-n) / (1 - 1 / 2.718281828459045) / n for n in (16, 6)]
    assert figures["resample_acceptance_rate"].value == pytest.approx((rates[0] + 1 + rates[1]) / 3)
    assert detail["acceptance_rate"] == figures["resample_acceptance_rate"].value
    assert detail["accepted"] == 12
    by_hand = context.store.query(
        "with own as (select prompt_id, cast(detail ->> '$.probability' as double) as p from selections), "
        "size as (select pow(sum(p), 2) / sum(p * p) as size, from own group by prompt_id) select avg(size) as s from size"
    )["s"][0].as_py()
    assert figures["resample_effective_size"].value == pytest.approx(by_hand)
    gain = figures["resample_score_gain"].value
    assert gain is not None and gain > 0


def test_only_accepted_candidates_are_paired_neighbours_first(tmp_path: Path) -> None:
    context = opened(tmp_path, MANY, resample=RSO)
    run(context, "resample", "pair")
    order = {row.candidate_id: row.accept_order for row in context.store.rows(Selection, "accepted")}
    pairs = context.store.rows(Pair)
    assert pairs and {pair.prompt_id for pair in pairs} <= {"p0", "p2"}
    for pair in pairs:
        first, second = sorted((order[pair.chosen_id] or 0, order[pair.rejected_id] or 0))
        assert (first % 2, second) == (0, first + 1)
    reasons = {event.subject_id: event.message for event in context.store.rows(Event, "kind = 'no_pair'")}
    assert reasons["p1"] == "tie" and reasons["p3"] == "too_few_candidates"
    detail = context.store.query("select detail from stages where stage = 'pair'")["detail"][0].as_py()
    assert json.loads(detail)["skipped"]["tie"] >= 2
    context.store.put_round(1, weights_hash="w1")
    assert rules(query_of(context)) == []
    # These prompts differ in their number of candidates, as no run's do.
    assert {finding.check for finding in references(query_of(context))} <= {"samples_missing"}
    assert ledger(query_of(context), {1: ["resample", "pair"]}) == []


def test_a_pair_of_a_refused_candidate_is_damage(tmp_path: Path) -> None:
    context = opened(tmp_path, [[0.0, 1.0, 2.0, 3.0]], resample={"id": "top_k", "accept": 2})
    run(context, "resample", "pair")
    with context.store.write() as transaction:
        transaction.execute("update pairs set rejected_id = 'p0-0', rejected_score = 0, margin = 3, digest = null")
        transaction.execute("update selections set accept_order = 5, digest = null where candidate_id = 'p0-2'")
    assert {(f.check, f.table) for f in rules(query_of(context))} == {
        ("not_accepted", "pairs"), ("accept_order", "selections")
    }  # fmt: skip


@pytest.mark.parametrize("refused", ["by the resampler", "as its decision is gone"])
def test_labels_and_rankings_of_a_refused_candidate_are_damage(tmp_path: Path, refused: str) -> None:
    context = opened(tmp_path, [[0.0, 1.0, 2.0, 3.0]], resample={"id": "top_k", "accept": 2})
    run(context, "resample")
    for name, places in (("of accepted ones", (2, 3)), ("with a refused one", (0, 3))):
        ids = tuple(f"p0-{place}" for place in places)
        context.store.insert([
            Ranking(name, "p0", 1, ids, tuple(map(float, places)), "verifier", "lists", 1.0),
            UnaryLabel(name, "p0", 1, ids[0], True, float(places[0]), "threshold", 1.0),
        ])  # fmt: skip
    said = "was not accepted by resampler top_k"
    if refused == "as its decision is gone":
        said = "was decided on by no resampler, as others of its round were"
        with context.store.write() as transaction:
            transaction.execute("delete from selections where candidate_id = 'p0-0'")
    damage = [f for f in rules(query_of(context)) if f.check == "not_accepted"]
    assert {(f.table, f.row_id, f.what) for f in damage} == {
        (table, "with a refused one", f"candidate p0-0 {said}") for table in ("rankings", "unary_labels")
    }  # fmt: skip


def test_a_round_without_accepted_candidates_ends_there(tmp_path: Path) -> None:
    context = opened(tmp_path, [[1.0, 1.0], [1.0, 1.0]], resample="threshold")
    with pytest.raises(EmptyStage, match="resampler 'threshold' accepted none of 4 scored candidates"):
        run(context, "resample")
    assert context.store.rows(Selection) == [] and context.store.rows(Evaluation) == []
    assert context.store.query("select status from stages where stage = 'resample'")["status"][0].as_py() == "empty"


def test_a_score_that_is_no_number_stops_the_stage_with_nothing_written(tmp_path: Path) -> None:
    context = opened(tmp_path, [[1.0, float("inf"), 3.0]], resample={"id": "rso", "accept": 2})
    with pytest.raises(BadInput, match="has the score inf"):
        run(context, "resample")
    assert context.store.rows(Selection) == []


def test_without_a_resampler_every_fingerprint_is_as_it_was(tmp_path: Path) -> None:
    context = opened(tmp_path, MANY, pair="max_min")
    assert "resample" not in stages_of(1, context.config)
    assert fingerprint(context, 1, "pair") == content_id(
        "pair", "f-judge", {"id": "max_min", "min_margin": 0.0, "max_tokens_ratio": None, "complete_only": False}
    )


def test_settings_and_seed_are_in_the_fingerprint(tmp_path: Path) -> None:
    contexts = [
        opened(tmp_path / str(i), [[1.0, 2.0]], resample=resample, seed=seed)
        for i, (resample, seed) in enumerate([(RSO, 5), ({**RSO, "beta": 2.0}, 5), (RSO, 6), ("threshold", 5)])
    ]
    assert len({fingerprint(context, 1, "resample") for context in contexts}) == 4


def test_where_the_stage_stands(tmp_path: Path) -> None:
    data = {"name": "x", "resample": "threshold", "judge": "rubric_logits"}
    config = validate_config({**data, "teach": {"rounds": [1]}}, "test")
    assert "resample" not in stages_of(0, config) + stages_of(1, config)
    names = stages_of(2, config)
    assert names[names.index("judge") : names.index("train")] == ["judge", "resample", "pair"]
    assert takes(2, "resample") == [(2, "judge")] and (2, "resample") in takes(2, "pair")
    assert [name for name in STAGES if name in names] == names


def test_its_rows_move_to_a_branch_and_back(tmp_path: Path) -> None:
    context = opened(tmp_path, MANY, resample=RSO)
    run(context, "resample", "pair")
    rows, figures = context.store.rows(Selection), context.store.rows(Evaluation)
    with context.store.write() as transaction:
        move_to_branch(transaction, [(1, "resample"), (1, "pair")], "rollback", "", "{}", "b1")
    assert context.store.rows(Selection) == [] and context.store.rows(Evaluation) == []
    made = fingerprint(context, 1, "resample")
    with context.store.write() as transaction:
        kept = find_kept(transaction, 1, "resample", made, None)
        assert kept is not None
        take_back(transaction, 1, "resample", kept)
    assert context.store.rows(Selection) == rows and context.store.rows(Evaluation) == figures
    run(context, "resample", "pair")
    assert context.store.query("select max(attempt) as n from stages")["n"][0].as_py() == 1, (
        "taken over, not made again"
    )
