"""A run whose first round teaches the judge and whose second one uses what it learned."""

from __future__ import annotations

import json

from tests.e2e.project import Project
from tests.stages.test_lessons import write_gold

JUDGE = {"id": "rubric_logits"}
TEACH = {
    "rounds": [1], "gold": "gold.jsonl", "instruction_share": 0.25,
    "train": {"id": "sft", "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 2, "epochs": 4},
}  # fmt: skip


def test_a_round_teaches_the_judge_and_the_next_one_is_judged_by_it(project: Project) -> None:
    project.write(judge=JUDGE, teach=TEACH)
    write_gold(project.folder / "gold.jsonl")
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    stages = project.sql("select round, stage from stages where status = 'done'")
    made = {t: {row["stage"] for row in stages if row["round"] == t} for t in (1, 2)}
    assert "lessons" in made[1] and "pair" not in made[1]
    assert "pair" in made[2] and "lessons" not in made[2]
    lessons = project.sql("select kind, source, answer, count(*) n from lessons group by all order by all")
    gold = [row for row in lessons if row["source"] == "gold" and row["kind"] == "judge"]
    assert [(row["answer"], row["n"]) for row in gold] == [("0", 8), ("5", 8)]
    judges = project.sql("select round, judge, min(weights_hash) hash from judgements group by all order by all")
    m1 = project.sql("select weights_hash from rounds where round = 1")[0]["weights_hash"]
    of_round = {(row["round"], row["judge"]): row["hash"] for row in judges}
    assert (1, "rubric_logits") not in of_round, "nothing is judged by a judge that is being taught"
    assert of_round[2, "rubric_logits"] == m1
    checkpoint = project.sql("select trainer, n_examples, metrics from checkpoints where round = 1")[0]
    assert checkpoint["trainer"] == "sft"
    assert checkpoint["n_examples"] == sum(row["n"] for row in lessons)
    metrics = json.loads(checkpoint["metrics"])
    assert metrics["nll"] < metrics["nll_parent"]
    again = project.selfalign("run", "run.yaml")
    assert again.returncode == 0, again.stderr
    assert project.sql("select max(attempt) n from stages") == [{"n": 1}], "nothing is made twice"
    verified = project.selfalign("verify", "runs/tiny")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_cannot_be_taught_is_refused_before_any_work(project: Project) -> None:
    project.write(judge={"id": "verifier"}, teach=TEACH)
    write_gold(project.folder / "gold.jsonl")
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 2
    assert "cannot be taught" in done.stderr
    assert not project.workspace.exists()
