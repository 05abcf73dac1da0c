"""SPIN from end to end: known answers against the model's own, without a judge."""

from __future__ import annotations

import json

from tests.e2e.project import TRAIN_PROMPTS, Project


def test_spin_without_a_judge(project: Project) -> None:
    known = {**TRAIN_PROMPTS[0], "answer": "Zero is even, and the least of them."}
    project.folder.mkdir(parents=True)
    lines = [known, *TRAIN_PROMPTS[1:6]]
    (project.folder / "train.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    answers = [{**line, "answer": f"Number {i} is even less than the next one."} for i, line in enumerate(lines[:5])]
    (project.folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers[1:])), encoding="utf-8")
    project.write(
        rounds=1,
        prompts={
            "per_round": 6,
            "sources": [{"id": "jsonl", "path": "train.jsonl"}, {"id": "jsonl", "path": "answers.jsonl"}],
            "held_out": [{"id": "jsonl", "path": "held.jsonl"}],
        },
        judge=None, pair={"id": "spin", "samples": 2},
        generate={
            "candidates": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 12, "demonstrations": True,
            "engine": {"id": "transformers", "max_rows": 8},
        },
    )  # fmt: skip
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    stages = {row["stage"] for row in project.sql("select stage from stages where round = 1")}
    assert "judge" not in stages and {"generate", "pair", "train", "evaluate"} <= stages
    made = project.sql("select rows_in, rows_out from stages where round = 1 and stage = 'generate'")
    assert made == [{"rows_in": 6, "rows_out": 6 * 2 + 5}], "five of the six prompts have an answer"
    pairs = project.sql("select chosen, builder, judge, margin, rejected from pair_text order by chosen, rejected")
    assert len(pairs) == 10
    assert {row["chosen"] for row in pairs} == {known["answer"], *(a["answer"] for a in answers[1:])}
    assert {(row["builder"], row["judge"], row["margin"]) for row in pairs} == {("spin", "demonstration", 1.0)}
    reasons = project.sql("select reason, prompts from yields where round = 1 order by reason")
    assert reasons == [{"reason": "no_demonstration", "prompts": 1}, {"reason": "paired", "prompts": 5}]
    assert project.sql("select n_examples from checkpoints")[0]["n_examples"] == 10
    verified = project.selfalign("verify", "runs/tiny")
    assert verified.returncode == 0, verified.stdout + verified.stderr
