"""A run with every measurement switched on: win rates, judge drift, capability, text figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign.evaluation import METRICS
from selfalign.store.branches import FIGURES_OF
from tests.e2e.project import Project

SETTINGS = {
    "win_rate": {"judge": {"id": "rubric_logits"}, "prompts": 6},
    "drift": {"judge": {"id": "rubric_logits"}, "prompts": 5},
    "capability": True,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_api: str) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("measured") / "project", tiny_model, prefect_api)
    project.write(evaluate=SETTINGS)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    yield project


def test_every_figure_is_there_with_its_n(measured: Project) -> None:
    rows = measured.sql("select * from evaluations")
    found = {(row["round"], row["metric"]): row for row in rows}
    wanted = {name for stage, names in FIGURES_OF.items() for name in names if stage != "resample"}
    assert {name for round, name in found if round == 2} >= wanted
    assert {name for round, name in found if round == 0} & wanted == {"plain_text_nll"}
    assert {name for _, name in found} <= METRICS.keys()
    for round in (1, 2):
        assert found[round, "win_rate_vs_m0"]["n"] == 6
        assert found[round, "judge_drift"]["n"] == 5
        for name in wanted - {"judge_drift"}:
            row = found[round, name]
            assert row["value"] is not None, name
            assert row["low"] <= row["value"] <= row["high"]
    # M_1's predecessor is M_0.
    assert found[1, "win_rate_vs_previous"]["value"] == found[1, "win_rate_vs_m0"]["value"]
    text = found[0, "plain_text_nll"]
    assert text["n"] == len(json.loads(text["detail"])["by_paragraph"]) >= 60
    assert 0 < text["value"] < 2 * math.log(259), "about as surprised as by bytes drawn at random"
    gap = found[2, "plain_text_nll"]["value"] - text["value"]
    assert found[2, "plain_text_nll_delta_vs_m0"]["value"] == pytest.approx(gap, abs=1e-12)
    detail = json.loads(found[2, "win_rate_vs_previous"]["detail"])
    assert (detail["judged_by"], detail["against"]) == ("M0", "M1")
    assert detail["wins"] + detail["ties"] + detail["losses"] + sum(detail["left_out"].values()) == 6


def test_the_judge_that_measures_has_m0s_weights_and_its_votes_are_kept(measured: Project) -> None:
    votes = measured.sql(
        "select j.round, json_extract_string(j.detail, '$.stage') as stage, j.weights_hash, c.round as of_round, "
        "c.split, j.outcome from judgements j join candidates c using (candidate_id) where j.detail like '%\"stage\"%'"
    )
    weights = {row["round"]: row["weights_hash"] for row in measured.sql("select round, weights_hash from rounds")}
    assert {row["split"] for row in votes} == {"held_out"}
    assert {row["weights_hash"] for row in votes if row["stage"] == "compare"} == {weights[0]}
    assert {(row["round"], row["of_round"]) for row in votes if row["stage"] == "compare"} == {
        (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)
    }  # fmt: skip
    drift = [row for row in votes if row["stage"] == "drift" and row["round"] == 2]
    assert {row["weights_hash"] for row in drift} == {weights[0], weights[2]}
    assert len(drift) == 2 * 2 * 5


def test_the_run_verifies_and_starting_again_does_nothing(measured: Project) -> None:
    before = measured.sql("select count(*) n, sum(attempt) a from stages")
    again = measured.selfalign("run", "run.yaml")
    assert again.returncode == 0, again.stderr
    assert measured.sql("select count(*) n, sum(attempt) a from stages") == before
    checked = measured.selfalign("verify", "runs/tiny")
    assert checked.returncode == 0, checked.stdout


def test_compare_reads_two_rounds_and_writes_to_neither(measured: Project) -> None:
    before = measured.sql("select count(*) n from judgements")
    done = measured.selfalign("compare", "tiny:2", "runs/tiny:0", "--json", "--output", "votes.jsonl")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["first"], found["second"], found["judged_by"]) == ("tiny:2", "tiny:0", "tiny:0")
    stored = measured.sql("select value from evaluations where metric = 'win_rate_vs_m0' and round = 2")
    assert found["win_rate"]["value"] == pytest.approx(stored[0]["value"])
    delta = measured.sql("select value from evaluations where metric = 'pass_rate_delta_vs_m0' and round = 2")
    passed = found["pass_rate"]["difference"]
    assert passed["n"] == 6 and (passed["value"] == 0 or delta[0]["value"] != 0)
    votes = [json.loads(line) for line in (measured.folder / "votes.jsonl").read_text().splitlines()]
    assert len(votes) == 2 * (6 - found["win_rate"]["detail"]["identical"])
    assert measured.sql("select count(*) n from judgements") == before

    shown = measured.selfalign("compare", "tiny:1", "tiny:2", "--judge", "verifier", "--prompts", "8")
    assert shown.returncode == 0, shown.stderr
    assert "win rate at equal length" in shown.stdout and "judge: verifier, weights of no model" in shown.stdout
    for arguments, said in (
        (("tiny", "tiny:1"), "write it as RUN:ROUND"), (("tiny:7", "tiny:1"), "rounds that have: 0, 1, 2"),
        (("none:1", "tiny:1"), "no run here"), (("tiny:1", "tiny:0", "--judge", "verifyer"), "did you mean 'verifier'"),
    ):  # fmt: skip
        refused = measured.selfalign("compare", *arguments)
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("stage", ["compare", "drift"])
def test_a_kill_among_the_judgements_changes_nothing(measured: Project, tmp_path: Path, stage: str) -> None:
    """Ended with one batch committed, the stage judges the rest, and the tables equal the undisturbed run's."""
    reached = (measured.folder / "trace.log").read_text().splitlines()
    order = [
        (row["round"], row["stage"]) for row in measured.sql("select round, stage from stages order by started_at")
    ]
    starts = [place for place, name in enumerate(reached) if name == "stage_started"]
    commits = reached[: starts[order.index((1, stage))]].count("batch_committed") + 1
    killed = Project(tmp_path / "killed", measured.model, measured.api)
    killed.write(evaluate=SETTINGS, rounds=1)
    killed.extra["SELFALIGN_FAIL_AT"] = f"batch_committed:{commits}"
    assert killed.selfalign("run", "run.yaml").returncode == -9
    unfinished = killed.sql("select round, stage from stages where status = 'running'")
    assert unfinished == [{"round": 1, "stage": stage}]
    killed.extra.clear()
    done = killed.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    for query in (
        "select judgement_id, candidate_id, score, outcome, detail from judgements where round = 1 order by all",
        "select metric, value, low, high, n, detail from evaluations where round = 1 order by all",
    ):
        assert killed.sql(query) == measured.sql(query)


def test_other_settings_of_a_measurement_remake_it_alone(measured: Project) -> None:
    before = measured.sql("select judgement_id from judgements where detail like '%\"drift\"%' order by all")
    done = measured.selfalign(
        "run", "run.yaml", "--set", "evaluate.win_rate.prompts=4", "--on-change", "branch"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert measured.sql("select distinct n from evaluations where metric = 'win_rate_vs_m0'") == [{"n": 4}]
    moved = measured.sql("select distinct stage from archived_stages")
    assert moved == [{"stage": "compare"}]
    assert measured.sql("select judgement_id from judgements where detail like '%\"drift\"%' order by all") == before
    checked = measured.selfalign("verify", "runs/tiny")
    assert checked.returncode == 0, checked.stdout
