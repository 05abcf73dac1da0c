"""One undisturbed run, looked at from every side."""

from __future__ import annotations

import json
import math

import pytest

from selfalign.stages.launch import Launcher
from tests.e2e.project import Project


def test_round_summary_has_a_row_a_model(finished: Project) -> None:
    rows = finished.sql("select * from round_summary order by round")
    assert [row["model"] for row in rows] == ["M0", "M1", "M2"]
    assert all(row["pass_rate_strict"] is not None for row in rows)
    assert all(row["pairs"] > 0 for row in rows[1:])
    assert len({row["weights_hash"] for row in rows}) == 3
    assert rows[0]["delta_vs_m0"] is None
    assert rows[2]["delta_vs_previous"] is not None


def test_each_round_was_made_by_the_weights_it_names(finished: Project) -> None:
    made = finished.sql(
        "select c.round, c.split, c.weights_hash, r.weights_hash as own, r.parent_hash as parent "
        "from candidates c join rounds r using (round)"
    )
    for row in made:
        assert row["weights_hash"] == (row["parent"] if row["split"] == "train" else row["own"])


def test_every_pair_can_be_followed_to_its_checkpoint(finished: Project) -> None:
    pairs = finished.sql("select count(*) n from pairs")[0]["n"]
    lineage = finished.sql("select * from lineage")
    assert len(lineage) == 2 * pairs
    for row in lineage:
        assert row["prompt"]
        assert row["checkpoint_id"]
        assert row["judgement_ids"]
        assert row["trained_weights_hash"] != row["weights_hash"]


def test_no_held_out_prompt_was_trained_on(finished: Project) -> None:
    assert finished.sql(
        "select count(*) n from pairs p join candidates c on c.candidate_id in (p.chosen_id, p.rejected_id) "
        "where c.split = 'held_out'"
    ) == [{"n": 0}]
    assert finished.sql(
        "select count(*) n from prompts a join prompts b using (prompt_id) where a.split = 'train' and b.split = 'held_out'"
    ) == [{"n": 0}]


def test_pairs_have_two_sides_and_a_margin(finished: Project) -> None:
    for row in finished.sql("select * from pair_text"):
        assert row["chosen"] != row["rejected"]
        assert row["margin"] > 0
        assert row["margin"] == pytest.approx(row["chosen_score"] - row["rejected_score"])


def test_training_started_at_ln_2(finished: Project) -> None:
    for row in finished.sql("select metrics from checkpoints"):
        assert json.loads(row["metrics"])["guard_loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_prompts_without_a_pair_are_counted(finished: Project) -> None:
    for round in (1, 2):
        left_out = finished.sql(
            f"select coalesce(sum(prompts), 0) n from yields where round = {round} and reason not in ('paired', 'not paired yet')"
        )
        with_pair = finished.sql(f"select count(distinct prompt_id) n from pairs where round = {round}")
        assert left_out[0]["n"] + with_pair[0]["n"] == 6


@pytest.mark.skipif(not Launcher().forks, reason="stages are not forked on this machine")
def test_a_forked_stage_has_nothing_left_to_import(finished: Project) -> None:
    """What takes seconds is loaded before the fork, once for all stages."""
    heavy = ("selfalign", "transformers", "trl", "datasets", "peft", "if_verifiable", "scipy")
    logs = {path.stem: path.read_text() for path in (finished.workspace / "logs").glob("round-*.log")}
    assert {"round-0-answer", "round-1-judge", "round-1-train", "round-2-log_ratio"} <= {*logs}
    lines = [line for log in logs.values() for line in log.splitlines() if line.startswith("import time:")]
    assert lines, "a stage imports some small thing: it is logged"
    imported = [line.rpartition("|")[2].strip() for line in lines]
    assert [name for name in imported if name.split(".")[0] in heavy] == []


def test_running_again_does_nothing(finished: Project) -> None:
    before = finished.sql("select * from stages order by all")
    again = finished.selfalign("run", "run.yaml")
    assert again.returncode == 0, again.stderr
    assert finished.sql("select * from stages order by all") == before


def test_status_and_sql_and_plan(finished: Project) -> None:
    assert "not running" in finished.selfalign("status", "runs/tiny").stdout
    report = json.loads(finished.selfalign("status", "tiny", "--json").stdout)
    assert {stage["status"] for stage in report[0]["stages"]} == {"done"}
    table = finished.selfalign("sql", "runs/tiny", "select model, pass_rate_strict from round_summary")
    assert "M2" in table.stdout
    assert "3 rows" in table.stdout
    rows = json.loads(finished.selfalign("sql", "tiny", "select 1 as one", "--json").stdout)
    assert rows == [{"one": 1}]
    plan = json.loads(finished.selfalign("plan", "run.yaml", "--json").stdout)
    assert plan["prompts"]["training"] == 12
    assert plan["seconds"] > 0
