"""A round that compares its judgements and trains on pairs of them: made, killed, gone on with, switched off and on."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfalign.changes import stale_stages
from selfalign.config import load_config
from selfalign.errors import ConfigError, PromptFileError, StageDied
from selfalign.failpoints import VARIABLE
from selfalign.judges.meta_judge import questions
from selfalign.preflight import check
from selfalign.progress import Silent
from selfalign.rounds import begin_round, end_round, run_round_stage, stages_of
from selfalign.session import held, session
from selfalign.stages.context import RunContext
from selfalign.stages.generate import engine_spec
from selfalign.stages.loading import load_engine
from selfalign.stages.meta_judge import compared_candidates, meta_judge
from selfalign.stages.set_aside import go_back
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.docs.test_meta import QUERIES
from tests.e2e.project import Project
from tests.e2e.test_calibrate import findings, table
from tests.tiny_model import make_tiny_model

#: Critiques of a random model are noise, and yet each has a score, and can be compared, as both are read from logits.
CRITIC = {"id": "critique", "critiques": 3, "max_tokens": 12}
JUDGE = {"id": "weighted", "members": [{"id": "verifier", "weight": 1.0}, {**CRITIC, "weight": 0.5}]}
META = {"enabled": True, "rubric": "meta/critiques", "mode": "logits", "candidates": 4, "max_length_ratio": None}
LEDGER = "select round, stage, attempt, started_at, finished_at from stages order by all"


def make(folder: Path) -> Project:
    # Room for a meta-judge's prompt: one token is one byte here.
    project = Project(folder / "project", make_tiny_model(folder / "model", context=2048), None)
    project.write(rounds=1, judge=JUDGE, meta=META, evaluate={"log_ratio": False})
    return project


def go_through(context: RunContext, until: str | None = None) -> None:
    for round in range(2):
        begin_round(context, round)
        for name in stages_of(round, context.config):
            if round == 1 and name == until:
                return
            run_round_stage(context, round, name)
        end_round(context, round)


def made(project: Project) -> dict[str, list[dict[str, Any]]]:
    found = {name: table(project, name) for name in ("meta_judgements", "judgement_pairs", "pairs")}
    found["weights"] = project.sql("select weights_hash from rounds order by round")
    return found


def compare_again(context: RunContext) -> dict[str, tuple[str | None, float | None]]:
    """What one process says that is not killed: meta_id -> winner, and the probability that first is better."""
    engine = load_engine(engine_spec(context, context.model(0)), lambda kind, message: None)
    judge, asked = meta_judge(context, 1), questions(compared_candidates(context, 1))
    rows = [row for batch in judge.plan(engine, asked) for row in judge.ask(engine, [asked[i] for i in batch], 1024)]
    return {row.meta_id: (row.winner, row.p_first) for row in rows}


def test_judgements_are_compared_and_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path)
    monkeypatch.chdir(project.folder)
    settings = load_config(Path("run.yaml"))
    with session(settings, Silent()) as context:
        go_through(context, until="meta_judge")
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, "batch_written:3")
        with pytest.raises(StageDied), session(settings, Silent()) as context:
            go_through(context, until="train")
    begun = table(project, "meta_judgements")
    with session(settings, Silent()) as context:
        go_through(context)
        undisturbed = compare_again(context)
    first = made(project)
    assert 0 < len(begun) < len(first["meta_judgements"]), "two batches are in the store, the killed one is not"
    assert [row for row in first["meta_judgements"] if row in begun] == begun

    assert {
        row["meta_id"]: (row["winner"], pytest.approx(row["p_first"])) for row in first["meta_judgements"]
    } == undisturbed
    _every_two_in_both_orders(project, first["meta_judgements"])
    pairs = first["judgement_pairs"]
    assert 0 < len(pairs) <= len(first["pairs"]), "max_share 0.5"
    for pair in pairs:
        (asked,) = json.loads(pair["messages"])
        assert "List what is wrong" in asked["content"]
        assert pair["margin"] > 0
    (checkpoint,) = project.sql("select n_examples, metrics from checkpoints")
    assert checkpoint["n_examples"] == len(pairs) + len(first["pairs"])
    assert json.loads(checkpoint["metrics"])["guard_loss"] == pytest.approx(math.log(2), abs=1e-4)
    (stage,) = project.sql("select rows_in, rows_out, attempt, detail from stages where stage = 'meta_judge'")
    assert (stage["rows_in"], stage["rows_out"], stage["attempt"]) == (4, len(pairs), 2)
    skipped = project.sql("select count(*) n from events where kind = 'no_judgement_pair'")[0]["n"]
    assert sum(json.loads(stage["detail"])["no_pair"].values()) == skipped == 4 - len(pairs)
    assert all(project.sql(query) for query in QUERIES[:3])
    assert findings(project) == []

    # Without it the round's training no longer stands; with it again all is taken back, and nothing is made twice.
    ledger = project.sql(LEDGER)
    workspace, without = Workspace(project.workspace), load_config(Path("run.yaml"), ["meta.enabled=false"])
    with held(workspace, without, Silent()) as context:
        stale = stale_stages(context)
        assert stale == [(1, "meta_judge"), (1, "train"), (1, "answer"), (1, "evaluate")]
        go_back(context, stale, "config", "without meta")
        assert table(project, "meta_judgements") == table(project, "judgement_pairs") == []
    kept = project.sql("select * exclude (branch, of_stage) from archived_judgement_pairs order by all")
    assert kept == pairs
    with held(workspace, settings, Silent()) as context:
        assert stale_stages(context) == []
        go_through(context)
    assert project.sql(LEDGER) == ledger, "taken back, not made again"
    assert made(project) == first
    assert findings(project) == []

    with Store(project.workspace / "store.duckdb").write() as transaction:
        transaction.execute(
            "update judgement_pairs set chosen_id = rejected_id where pair_id = ?", [pairs[0]["pair_id"]]
        )
        transaction.execute("update meta_judgements set first_id = 'gone', weights_hash = 'other'")
    found = {(finding.check, finding.table) for finding in findings(project)}
    assert found >= {
        ("changed", "judgement_pairs"), ("changed", "meta_judgements"), ("same_judgement_twice", "judgement_pairs"),
        ("unknown_judgement", "meta_judgements"), ("judged_by_other_weights", "meta_judgements"),
    }  # fmt: skip


def _every_two_in_both_orders(project: Project, rows: list[dict[str, Any]]) -> None:
    weights = project.sql("select weights_hash from rounds where round = 0")[0]["weights_hash"]
    assert {row["weights_hash"] for row in rows} == {weights}
    assert {row["judge"] for row in rows} == {"critique"}
    compared = {row["candidate_id"] for row in rows}
    assert len(compared) == 4
    for candidate in compared:
        listed = ", ".join(f"'{row['first_id']}'" for row in rows if row["candidate_id"] == candidate)
        ids = [row["judgement_id"] for row in project.sql(f"select * from judgements where judgement_id in ({listed})")]
        orders = {(row["first_id"], row["second_id"]) for row in rows if row["candidate_id"] == candidate}
        assert orders == set(itertools.permutations(ids, 2)) and len(ids) == 3


def test_a_judge_that_writes_nothing_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make(tmp_path)
    monkeypatch.chdir(project.folder)
    for change, error, said in (
        ("judge=rubric_logits", ConfigError, "does not write at least two judgements"),
        ("judge={id: critique, critiques: 1}", ConfigError, "does not write at least two judgements"),
        ("meta.rubric=judges/additive", PromptFileError, "must be of kind 'meta_judge'"),
    ):
        settings = load_config(Path("run.yaml"), [change])
        context = RunContext(settings, Workspace(project.workspace), Store(project.workspace / "none"), Silent())
        with pytest.raises(error, match=said):
            check(context)
    assert not project.workspace.exists()
