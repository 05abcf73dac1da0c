"""The stage ``gate`` on a store by hand: what is written down, what follows, and what a later start makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign import control
from selfalign.config import validate_config
from selfalign.errors import GateStopped
from selfalign.progress import Silent
from selfalign.rounds import held, run_round_stage, stages_of
from selfalign.stages import gate
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.types import Evaluation
from selfalign.workspace import Workspace
from tests.e2e.project import HELD_OUT_PROMPTS, TRAIN_PROMPTS
from tests.store.rows import evaluation, pair, prompt


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    found = Workspace(tmp_path / "run")
    found.create()
    for name, prompts in (("train", TRAIN_PROMPTS), ("held", HELD_OUT_PROMPTS)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(p) for p in prompts), encoding="utf-8")
    with found.lock():
        yield found


def opened(workspace: Workspace, model: Path, gates: list[Any], **changes: Any) -> RunContext:
    folder = workspace.path.parent
    data = {
        "name": "made", "model": str(model), "workspace": str(workspace.path), "rounds": 2, "gates": gates,
        "judge": "verifier",
        "prompts": {
            "sources": [{"id": "jsonl", "path": str(folder / "train.jsonl")}],
            "held_out": [{"id": "jsonl", "path": str(folder / "held.jsonl")}],
        },
    }  # fmt: skip
    config = validate_config({**data, **changes}, "test")
    context = RunContext(config, workspace, Store(workspace.store_path), Notes())
    context.store.create()
    if context.store.get_run() is None:
        context.store.put_run(
            "made", seed=0, config=json.dumps(config.snapshot()), config_hash="", environment="{}", version="0"
        )
    return context


def made(context: RunContext, round: int, *figures: Evaluation) -> None:
    """The round up to its gate."""
    store = context.store
    parent = context.initial.weights_hash
    store.put_round(
        round, weights_hash=f"w{round}" if round else parent, parent_hash=parent if round else None, status="running"
    )
    for name in stages_of(round, context.config):
        if name != "gate":
            store.start_stage(round, name, f"f{round}")
            store.finish_stage(round, name, f"f{round}", rows_in=0, rows_out=0)
    store.insert(list(figures))


def decisions(context: RunContext) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = context.store.query(
        "select branch, round, rule, verdict, done, value from gate_decisions order by all"
    ).to_pylist()
    return found


def chance(**changes: Any) -> Evaluation:
    values = {"low": 0.447, "high": 0.577, "n": 226, "round": 0, "split": "gold_test", **changes}
    return evaluation("judge_pairwise_accuracy", 0.512, **values)


def fall(round: int = 1) -> Evaluation:
    return evaluation(
        "pass_rate_delta_vs_previous", -0.3, low=-0.4, high=-0.2, round=round, detail='{"p_value": 0.001}'
    )


def test_a_judge_at_chance_ends_the_run_with_figure_and_remedies(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, ["judge_accuracy", "pass_rate"])
    made(context, 0, chance())
    for attempt in (1, 2):  # starting again without a change stops again
        with pytest.raises(GateStopped) as stopped:
            run_round_stage(context, 0, "gate")
        assert stopped.value.exit_code == 1
        text = str(stopped.value)
        assert "\n" not in text
        assert "round 0: gate judge_accuracy: judge_pairwise_accuracy 0.512 [0.447, 0.577], n 226" in text
        assert all(
            word in text for word in ("teach the judge", "another judge", "lower", "--set gates.0.action=continue")
        )
        record = context.store.stage(0, "gate")
        assert record is not None
        assert (record.status, record.attempt) == ("failed", attempt)
        assert decisions(context) == [
            {"branch": None, "round": 0, "rule": "judge_accuracy", "verdict": "fail", "done": "stop", "value": 0.512},
            {"branch": None, "round": 0, "rule": "pass_rate", "verdict": "not_applicable", "done": None, "value": None},
        ]  # fmt: skip
    assert context.store.query("select count(*) n from evaluations")["n"].to_pylist() == [1], "every row is kept"


def test_a_loosened_gate_goes_on_and_has_another_fingerprint(workspace: Workspace, tiny_model: Path) -> None:
    strict = opened(workspace, tiny_model, ["judge_accuracy"])
    made(strict, 0, chance())
    loose = opened(workspace, tiny_model, [{"id": "judge_accuracy", "min_low": 0.4}])
    stages = stages_of(0, loose.config)[:-1]
    assert gate.fingerprint(strict, 0, stages) != gate.fingerprint(loose, 0, stages)
    outcome = run_round_stage(loose, 0, "gate")
    assert outcome is not None
    assert "1 decisions pass" in outcome.summary
    assert run_round_stage(loose, 0, "gate") is None, "done is done"


def test_the_fingerprint_covers_the_stages_and_the_gate_before(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, ["pass_rate"])
    made(context, 0)
    made(context, 1)
    stages = stages_of(1, context.config)[:-1]
    assert stages[-1] == "evaluate"
    seen = {gate.fingerprint(context, 1, stages)}
    run_round_stage(context, 0, "gate")
    seen.add(gate.fingerprint(context, 1, stages))
    context.store.start_stage(1, "evaluate", "other")
    context.store.finish_stage(1, "evaluate", "other", rows_in=0, rows_out=0)
    seen.add(gate.fingerprint(context, 1, stages))
    assert len(seen) == 3


def test_a_fall_is_rolled_back_and_would_not_be_repeated(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, ["pass_rate"])
    made(context, 0)
    made(context, 1, fall(), evaluation("pass_rate_strict", 0.2))
    context.store.insert([prompt(), pair("x", "c", "d")])
    with pytest.raises(GateStopped, match="branch b1, the run stands at M0") as stopped:
        run_round_stage(context, 1, "gate")
    assert "\n" not in str(stopped.value)
    for table in ("stages", "evaluations", "pairs", "rounds"):
        assert context.store.query(f"select round from {table} where round = 1").num_rows == 0
        assert context.store.query(f"select round from archived_{table} where round = 1 and branch = 'b1'").num_rows
    assert context.store.query("select branch, metric from all_evaluations where value = 0.2").to_pylist() == [
        {"branch": "b1", "metric": "pass_rate_strict"}
    ]
    assert decisions(context) == [
        {"branch": "b1", "round": 1, "rule": "pass_rate", "verdict": "fail", "done": "roll_back", "value": -0.3}
    ]
    (branch,) = context.store.query("select reason, detail from branches").to_pylist()
    assert branch["reason"] == "rollback"
    assert "gate pass_rate" in branch["detail"]
    with pytest.raises(GateStopped, match="nothing that it is made of has changed"):
        gate.refuse_to_repeat(context, 1)
    gate.refuse_to_repeat(context, 2)
    same = opened(workspace, tiny_model, ["pass_rate"], rounds=5, execution={"approve": True})
    with pytest.raises(GateStopped, match="--on-change keep"):
        gate.refuse_to_repeat(same, 1)
    for changes in ({"train": {"id": "dpo", "beta": 0.2}}, {"seed": 1}):
        gate.refuse_to_repeat(opened(workspace, tiny_model, ["pass_rate"], **changes), 1)
    gate.refuse_to_repeat(opened(workspace, tiny_model, [{"id": "pass_rate", "action": "continue"}]), 1)


def test_a_round_that_others_follow_is_not_rolled_back(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, ["pass_rate"])
    for round in (0, 1, 2):
        made(context, round, *([fall()] if round == 1 else []))
    with pytest.raises(GateStopped, match="every row is kept"):
        run_round_stage(context, 1, "gate")
    assert context.store.query("select * from branches").num_rows == 0


def test_a_gate_that_asks_holds_the_next_round_until_it_is_approved(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, [{"id": "judge_accuracy", "action": "ask"}])
    made(context, 0, chance())
    assert held(context, 1) is None
    run_round_stage(context, 0, "gate")
    assert held(context, 0) is None
    why = held(context, 1)
    assert why is not None
    assert "round 0 waits for approval: gate judge_accuracy: judge_pairwise_accuracy 0.512" in why
    control.approve(workspace, 0)
    assert held(context, 1) is None


def test_a_warning_is_said_and_the_run_goes_on(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, [{"id": "judge_accuracy", "action": "continue"}, {"id": "yield"}])
    made(context, 0, chance())
    outcome = run_round_stage(context, 0, "gate")
    assert outcome is not None
    assert isinstance(context.reporter, Notes)
    (line,) = context.reporter.lines
    assert line.startswith("warning: round 0: gate judge_accuracy")
    assert held(context, 1) is None
    assert [row["done"] for row in decisions(context)] == ["continue", None]


def test_yields_are_counted_from_the_store(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, [{"id": "yield", "min_share": 0.5}])
    made(context, 0)
    made(context, 1)
    context.store.insert([prompt(f"p{i}") for i in range(4)])
    context.store.insert([pair("x", "c", "d", "p1")])
    run_round_stage(context, 1, "gate")
    assert [(row["verdict"], row["value"]) for row in decisions(context)] == [("fail", 0.25)]


def test_without_gates_there_is_no_such_stage(workspace: Workspace, tiny_model: Path) -> None:
    context = opened(workspace, tiny_model, [])
    assert "gate" not in stages_of(0, context.config) + stages_of(1, context.config)
