"""Gates over whole runs: a run that is stopped, one that is rolled back, and what the next start makes of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from selfalign.config import load_config
from selfalign.errors import GateStopped
from selfalign.pairing.max_min import MaxMinBuilder
from selfalign.progress import Silent
from selfalign.protocols import PairingInput
from selfalign.registry import Plugin, register
from selfalign.rounds import begin_round, end_round, rounds_left, run_round_stage, stages_of
from selfalign.session import session
from selfalign.types import Pairing
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.project import LEFT_OUT, Project, ask


def one_error(done: Any, code: int = 1) -> str:
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return str(line)


def decisions_on_page(project: Project) -> list[dict[str, Any]]:
    assert project.api
    shown = {artifact["key"]: artifact for artifact in ask(project.api, "artifacts/latest/filter")}
    found: list[dict[str, Any]] = json.loads(shown["tiny-gates"]["data"])
    return found


def write_mirrored_gold(path: Path) -> None:
    """Every two answers once in either order: whatever a judge thinks of them, half of these items are right."""
    sides = [
        {"better": "A short one.", "worse": "A longer one, perhaps."},
        {"better": "A longer one, perhaps.", "worse": "A short one."},
    ]
    items = [
        {"key": f"{n}-{m}", "split": "test", "kind": "mirrored", "language": "en", "prompt": f"Say number {n}.", **side}
        for n in range(12)
        for m, side in enumerate(sides)
    ]
    path.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")


def test_a_run_that_is_stopped_loosened_rolled_back_and_taken_back(project: Project) -> None:
    # A judge at chance, measured by the real stage, under the gates that are on where the config names none.
    chance = {"calibrate": {"gold": "gold.jsonl"}, "gates": LEFT_OUT}
    project.write(rounds=1, **chance)
    write_mirrored_gold(project.folder / "gold.jsonl")
    first = one_error(project.selfalign("run", "run.yaml"), code=1)
    figure = project.sql(
        "select value, low, high, n from evaluations where metric = 'judge_pairwise_accuracy' and split = 'gold_test'"
    )[0]
    assert (figure["value"], figure["n"]) == (0.5, 24) and figure["low"] < 0.5 < figure["high"]
    said = (
        f"round 0: gate judge_accuracy: judge_pairwise_accuracy 0.500 [{figure['low']:.3f}, {figure['high']:.3f}], n 24"
    )
    assert said in first
    assert "must exceed 0.5: this judge is not known to tell better from worse" in first
    assert "teach the judge (evaluation fine-tuning), take another judge, or lower this gate's min_low" in first
    assert "--set gates.0.action=continue" in first
    acted = [(row["round"], row["action"]) for row in decisions_on_page(project) if row["action"]]
    assert acted == [(0, "stop")]
    assert project.sql("select * from candidates where split = 'train'") == [], "it stops before the expensive work"
    stages = project.sql("select round, stage, status from stages order by started_at")
    assert [(row["stage"], row["status"]) for row in stages][-1] == ("gate", "failed")
    again = one_error(project.selfalign("resume", "runs/tiny"))
    assert again == first

    # Other gates need no --on-change: nothing but decisions is made anew.
    # The share of checked prompts never exceeds 1, so that this rule always fails.
    never = {"id": "figure", "metric": "pass_rate_strict", "min": 2}
    project.write(rounds=1, calibrate=chance["calibrate"], gates=[{**never, "action": "roll_back", "from_round": 1}])
    rolled = one_error(project.selfalign("run", "run.yaml"))
    assert "round 1 is rolled back" in rolled or "the round is rolled back" in rolled
    (branch,) = project.sql("select branch, from_round, from_stage from branches where reason = 'rollback'")
    assert (branch["from_round"], branch["from_stage"]) == (1, "prompts")
    assert f"branch {branch['branch']}" in rolled
    shown = decisions_on_page(project)
    assert [(row["round"], row["action"]) for row in shown if not row["branch"]] == [(0, "")]
    (back,) = [row for row in shown if row["branch"] == branch["branch"]]
    assert (back["round"], back["figure"], back["bound"], back["action"]) == (1, "pass_rate_strict", 2.0, "roll_back")
    assert back["value"] < 2 and "gate figure" in back["reason"]
    assert project.sql("select round from rounds") == [{"round": 0}]
    assert project.sql("select count(*) > 0 kept from all_pairs where branch is not null") == [{"kept": True}]
    assert project.sql("select rule, done from gate_decisions where verdict = 'fail' and round = 1") == [
        {"rule": "figure", "done": "roll_back"}
    ]
    clean = project.selfalign("verify", "runs/tiny")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert project.selfalign("status", "runs/tiny").returncode == 0
    assert branch["branch"] in project.selfalign("branches", "runs/tiny").stdout

    same = one_error(project.selfalign("run", "run.yaml"))
    assert "nothing that it is made of has changed" in same
    assert project.sql("select round from rounds") == [{"round": 0}]
    begun = (project.folder / "trace.log").read_text().count("batch_begun")
    on = project.selfalign("run", "run.yaml", "--set", "gates.0.action=continue")
    assert on.returncode == 0, on.stderr
    assert "warning: round 1: gate figure" in on.stderr
    assert (project.folder / "trace.log").read_text().count("batch_begun") == begun, "the round is taken back"
    assert [row["model"] for row in project.sql("select model from round_summary order by round")] == ["M0", "M1"]
    assert project.selfalign("verify", "runs/tiny").returncode == 0


class Sabotaged(MaxMinBuilder):
    """Pairs as they should be in round 1; from then on the worse answer is the chosen one."""

    name = "sabotaged"

    class Config(MaxMinBuilder.Config):
        id: Literal["sabotaged"] = "sabotaged"  # type: ignore[assignment]

    def build(self, data: PairingInput) -> Pairing:
        found = super().build(data)
        return found if data.round == 1 else Pairing(tuple(map(_inverted, found.pairs)), found.unpaired)


def _inverted(pair: Any) -> Any:
    return replace(
        pair, chosen_id=pair.rejected_id, rejected_id=pair.chosen_id, chosen_score=pair.rejected_score,
        rejected_score=pair.chosen_score, margin=-pair.margin,
    )  # fmt: skip


@pytest.fixture
def sabotage() -> Iterator[None]:
    register(Plugin("pair", "sabotaged", f"{__name__}:Sabotaged", "inverted labels from round 2 on"))
    yield
    from selfalign import registry

    registry._plugins.pop(("pair", "sabotaged"))


def _prompts(what: str, things: Sequence[str]) -> str:
    # What one token decides is learned, and unlearned, in a few steps.
    rule = {"instruction_id_list": ["keywords:letter_frequency"],
            "kwargs": [{"letter": "e", "let_frequency": 1, "let_relation": "at least"}]}  # fmt: skip
    return "\n".join(json.dumps({"text": f"{what} {thing}.", **rule}) for thing in things)


def test_inverted_labels_are_detected_and_rolled_back(tmp_path: Path, tiny_model: Path, sabotage: None) -> None:
    project = Project(tmp_path / "project", tiny_model, None)
    path = project.write(
        prompts={
            "per_round": 40,
            "sources": [{"id": "jsonl", "path": "train.jsonl"}],
            "held_out": [{"id": "jsonl", "path": "held.jsonl"}],
        },
        generate={"candidates": 6, "temperature": 1.0, "top_p": 1.0, "max_tokens": 24,
                  "engine": {"id": "transformers", "max_rows": 120}},
        judge={"id": "verifier"},
        pair={"id": "sabotaged"},
        train={"id": "dpo", "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 4, "epochs": 3, "beta": 0.1},
        evaluate={"temperature": 1.0, "log_ratio": False},
        gates=[{"id": "judge_accuracy"}, {"id": "pass_rate"}],
    )  # fmt: skip
    (project.folder / "train.jsonl").write_text(
        _prompts("Say something short about number", [str(i) for i in range(80)])
    )
    (project.folder / "held.jsonl").write_text(
        _prompts(
            "Describe for me in a few words the old town of", [f"{a}{b}ville" for a in "BCDFGHKLMN" for b in "aeiouy"]
        )
    )
    with contextlib.chdir(project.folder):
        settings = load_config(path)
        with session(settings, Silent()) as context, pytest.raises(GateStopped) as stopped:
            for round in rounds_left(context):
                begin_round(context, round)
                for name in stages_of(round, context.config):
                    run_round_stage(context, round, name)
                end_round(context, round)
        with pytest.raises(GateStopped, match="nothing that it is made of"), session(settings, Silent()):
            pass
    assert "round 2: gate pass_rate: pass_rate_delta_vs_previous -" in str(stopped.value)
    assert "the run stands at M1" in str(stopped.value)
    rates = project.sql(
        "select branch, round, value from all_evaluations where metric = 'pass_rate_strict' order by round"
    )
    assert [(row["branch"], row["round"]) for row in rates] == [(None, 0), (None, 1), ("b1", 2)]
    assert rates[1]["value"] > rates[0]["value"], "the sound round is kept, and was worth it"
    assert project.sql("select count(*) > 0 n from all_pairs where branch = 'b1' and margin < 0") == [{"n": True}]
    missing = project.sql(
        "select distinct round, verdict from gate_decisions where rule = 'judge_accuracy' order by round"
    )
    assert [row["verdict"] for row in missing] == ["not_applicable"] * 3, "the verifier is not measured"
    assert verify(Workspace(project.workspace)).findings == ()
