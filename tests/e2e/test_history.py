"""Going back, branching, forking: nothing is lost, nothing is made twice, old and new can be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from selfalign.failpoints import VARIABLE
from selfalign.identity import hash_weights
from tests.e2e.project import Project
from tests.e2e.torture import batches_begun, differences, tables

Copy = Callable[..., Project]
OTHER_JUDGE = "judge={id: rubric_logits}"


def stages(project: Project, table: str = "stages") -> set[tuple[int, str]]:
    return {(row["round"], row["stage"]) for row in project.sql(f"select round, stage from {table}")}


def test_a_changed_setting_is_refused_with_what_it_concerns(finished: Project) -> None:
    refused = finished.selfalign("run", "run.yaml", "--set", "generate.temperature=0.5")
    assert refused.returncode == 2
    assert "generate.temperature 1.0 -> 0.5" in refused.stderr
    assert "round 1 generate, judge, pair, train" in refused.stderr
    assert "--on-change branch" in refused.stderr
    assert finished.sql("select * from branches") == []
    odd = finished.selfalign("run", "run.yaml", "--on-change", "perhaps")
    assert odd.returncode == 2
    assert "ask, branch, keep, refuse" in odd.stderr


def test_a_new_judge_over_the_same_candidates_and_back_again(finished: Project, copy: Copy) -> None:
    project = copy()
    before = tables(finished)
    begun = batches_begun(project)
    done = project.selfalign("run", "run.yaml", "--set", OTHER_JUDGE, "--on-change", "branch")
    assert done.returncode == 0, done.stderr
    # The candidates of round 1 were made before the judge had a say; everything after was made again.
    assert project.sql("select * from candidates where round = 1 and split = 'train' order by all") == [
        row for row in before["candidates"] if row["round"] == 1 and row["split"] == "train"
    ]
    assert (1, "generate") not in stages(project, "archived_stages")
    assert {(1, "judge"), (1, "pair"), (2, "generate"), (2, "evaluate")} <= stages(project, "archived_stages")
    for name in ("pairs", "judgements"):
        kept = project.sql(f"select * exclude (branch, of_stage) from archived_{name} order by all")
        again = [row for row in before[name] if row in kept]
        assert kept == again
        assert kept, name
    # Old and new side by side.
    changes = project.sql("select * from pair_changes where round = 1")
    assert {row["branch"] for row in changes} == {"b1"}
    assert {row["change"] for row in changes} - {"same sides"}, "without the verifier other answers win"
    for row in changes:
        if row["change"] == "flipped":
            assert row["chosen_now"] == row["rejected_before"]
            assert row["rejected_now"] == row["chosen_before"]
    # The first settings again: everything is there already.
    assert batches_begun(project) > begun
    begun = batches_begun(project)
    back = project.selfalign("run", "run.yaml", "--on-change", "branch")
    assert back.returncode == 0, back.stderr
    assert batches_begun(project) == begun, "nothing was generated or judged again"
    assert differences(finished, project) == []
    listed = json.loads(project.selfalign("branches", "runs/tiny", "--json").stdout)
    assert [(branch["branch"], branch["reason"]) for branch in listed] == [("b1", "config"), ("b2", "config")]
    # And forth, by name.
    rolled = project.selfalign("rollback", "runs/tiny", "b2")
    assert rolled.returncode == 0, rolled.stderr
    assert '"verifier"' not in project.sql("select config from runs")[0]["config"]
    assert project.sql("select count(*) n from rounds where status = 'done'") == [{"n": 3}]
    assert project.selfalign("resume", "runs/tiny").returncode == 0
    assert batches_begun(project) == begun
    unknown = project.selfalign("rollback", "runs/tiny", "b9")
    assert unknown.returncode == 2
    assert "b1, b2, b3" in unknown.stderr


def test_resume_from_a_round_makes_what_follows_again(finished: Project, copy: Copy) -> None:
    project = copy()
    begun = batches_begun(project)
    refused = project.selfalign("resume", "runs/tiny", "--from-round", "7")
    assert refused.returncode == 2
    assert "0 to 2" in refused.stderr
    done = project.selfalign("resume", "runs/tiny", "--from-round", "1")
    assert done.returncode == 0, done.stderr
    assert differences(finished, project) == []
    assert batches_begun(project) > begun, "made again, not brought back"
    assert {round for round, _ in stages(project, "archived_stages")} == {2}
    assert len(project.sql("select * from archived_candidates")) == len(
        finished.sql("select * from candidates where round = 2")
    )


def test_a_fork_shares_the_past_and_reuses_what_is_equal(finished: Project, copy: Copy) -> None:
    project = copy()
    begun = batches_begun(project)
    done = project.selfalign("fork", "runs/tiny", "gentle", "--round", "1", "--set", "train.beta=0.5")
    assert done.returncode == 0, done.stderr
    fork = Project(project.folder, project.model, project.api, name="gentle")
    for table in ("candidates", "judgements", "pairs"):
        same = (
            "round <= 1"
            if table == "pairs"
            else "round <= 1 or round = 2 and candidate_id not in (select candidate_id from candidates where split = 'held_out')"
        )
        assert fork.sql(f"select * from {table} where {same} order by all") == finished.sql(
            f"select * from {table} where {same} order by all"
        )
    origin = json.loads(fork.sql("select origin from runs")[0]["origin"])
    assert (origin["run"], origin["round"]) == ("tiny", 1)
    made = fork.sql("select round, json_extract(config, '$.beta')::double as beta from checkpoints order by round")
    assert made == [{"round": 1, "beta": 0.1}, {"round": 2, "beta": 0.5}]
    assert fork.sql("select distinct run from evaluations") == [{"run": "gentle"}]
    # Of round 2 only what comes after training was made: held-out answers (2 batches), what is checked of them, and the
    # log-ratio.
    answers = fork.sql("select count(*) n from candidates where round = 2 and split = 'train'")
    assert answers[0]["n"] > 0
    assert batches_begun(project) - begun <= 4
    # Neither run needs the other.
    assert differences(finished, project) == []
    shutil.rmtree(project.workspace)
    again = fork.selfalign("resume", "gentle", "--set", "rounds=3")
    assert again.returncode == 0, again.stderr
    taken = fork.selfalign("fork", "gentle", "gentle", "--round", "1")
    assert taken.returncode == 2
    assert "not empty" in taken.stderr


def test_finished_rounds_can_be_kept_under_new_settings(finished: Project, copy: Copy) -> None:
    project = copy()
    done = project.selfalign(
        "run", "run.yaml", "--set", "rounds=3", "--set", "train.beta=0.5", "--on-change", "keep"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = project.sql("select round, json_extract(config, '$.beta')::double as beta from checkpoints order by round")
    assert made == [{"round": 1, "beta": 0.1}, {"round": 2, "beta": 0.1}, {"round": 3, "beta": 0.5}]
    for table in ("candidates", "judgements", "pairs"):
        assert project.sql(f"select * from {table} where round <= 2 order by all") == finished.sql(
            f"select * from {table} order by all"
        )
    # Accepted once is accepted: the same command again has nothing to ask.
    assert project.selfalign("resume", "runs/tiny").returncode == 0


def test_more_rounds_are_welcome(finished: Project, copy: Copy) -> None:
    project = copy()
    more = project.selfalign("run", "run.yaml", "--set", "rounds=3")
    assert more.returncode == 0, more.stderr
    models = [row["model"] for row in project.sql("select model from round_summary order by round")]
    assert models == ["M0", "M1", "M2", "M3"]
    for table in ("candidates", "judgements", "pairs"):
        assert project.sql(f"select * from {table} where round <= 2 order by all") == finished.sql(
            f"select * from {table} order by all"
        )


def test_a_change_in_the_middle_of_a_stage_mixes_nothing(finished: Project, project: Project) -> None:
    project.write()
    project.extra[VARIABLE] = "batch_committed:3"  # in round 1's generation
    assert project.selfalign("run", "run.yaml").returncode != 0
    project.extra.clear()
    half = project.sql("select candidate_id from candidates where split = 'train'")
    other = project.selfalign("run", "run.yaml", "--set", "generate.temperature=0.9", "--on-change", "branch")
    assert other.returncode == 0, other.stderr
    assert {row["temperature"] for row in project.sql("select temperature from candidates where split = 'train'")} == {
        0.9
    }
    assert project.sql("select candidate_id from archived_candidates where of_stage = 'generate'") == half
    # Back to the first settings: its half of a stage is continued, not begun again.
    back = project.selfalign("run", "run.yaml", "--on-change", "branch")
    assert back.returncode == 0, back.stderr
    assert differences(finished, project) == []


def test_a_kill_while_history_changes_loses_nothing(finished: Project, copy: Copy) -> None:
    project = copy()
    change = ("run", "run.yaml", "--set", "train.beta=0.5", "--on-change", "branch")
    back = ("run", "run.yaml", "--on-change", "branch")
    # Undone by the first kill, done before the second, and half taken back at the third.
    for command, moment in ((change, "branch_moved"), (change, "branch_made"), (back, "rows_taken:3")):
        project.extra[VARIABLE] = moment
        assert project.selfalign(*command).returncode != 0, f"{moment} was not reached"
        project.extra.clear()
        if command == change and moment == "branch_made":
            assert project.selfalign(*change).returncode == 0
    assert project.selfalign(*back).returncode == 0
    assert differences(finished, project) == []
    assert [row["branch"] for row in project.sql("select branch from branches order by branch")] == ["b1", "b2"]


def test_a_fork_that_is_interrupted_leaves_no_half_run(finished: Project, copy: Copy) -> None:
    project = copy()
    weights = hash_weights(project.workspace / "checkpoints/round-1")
    project.extra[VARIABLE] = "file_written:1"
    assert project.selfalign("fork", "runs/tiny", "half", "--round", "1", "--no-start").returncode != 0
    project.extra.clear()
    assert not (project.folder / "runs/half").exists()
    made = project.selfalign("fork", "runs/tiny", "half", "--round", "1", "--no-start")
    assert made.returncode == 0, made.stderr
    assert hash_weights(project.folder / "runs/half/checkpoints/round-1") == weights
