"""The judge measured as a stage and by the command, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfalign.changes import stale_stages
from selfalign.config import load_config
from selfalign.errors import PromptFileError, StageDied
from selfalign.failpoints import VARIABLE
from selfalign.history import discard_after
from selfalign.judges.calibrated_weights import log_odds
from selfalign.judges.jury import JuryJudge
from selfalign.progress import Silent
from selfalign.protocols import JudgeContext
from selfalign.registry import find
from selfalign.rounds import begin_round, end_round, run_round_stage, stages_of
from selfalign.session import session
from selfalign.templates import Templates, shipped_prompts
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.project import Project
from tests.tiny_model import make_tiny_model

KINDS = ("constraint", "off_topic")


def gold_line(number: int, split: str) -> dict[str, Any]:
    """A prompt with a constraint that the verifier can check, every second time."""
    line: dict[str, Any] = {
        "key": f"{split}-{number:02d}", "split": split, "kind": KINDS[number % 2], "language": "en",
        "prompt": f"{split}: say something of number {number // 2}, without commas, please ({number % 2}).",
        "better": f"Number {number} is fine." + " Really." * (number % 4), "worse": f"Number {number}, well, is, fine.",
    }  # fmt: skip
    if number % 2 == 0:
        line |= {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    return line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Room for a rubric with prompt and answer in it: one token is one byte here."""
    return make_tiny_model(tmp_path_factory.mktemp("wide") / "model", context=2048)


def make(folder: Path, model: Path, **changes: Any) -> Project:
    project = Project(folder, model, None)
    folder.mkdir(parents=True)
    lines = [
        gold_line(n, split) for split, count in (("test", 12), ("calibrate", 6), ("teach", 2)) for n in range(count)
    ]
    (folder / "gold.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    project.write(rounds=1, calibrate={"gold": "gold.jsonl", "items": 10}, **changes)
    return project


def bring(project: Project, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """Rounds 0 ... ``rounds``, without Prefect."""
    monkeypatch.chdir(project.folder)
    with session(load_config(Path("run.yaml")), Silent()) as context:
        for round in range(rounds + 1):
            begin_round(context, round)
            for name in stages_of(round, context.config):
                run_round_stage(context, round, name)
            end_round(context, round)


def table(project: Project, name: str) -> list[dict[str, Any]]:
    return project.sql(f"select * from {name} order by all")


def findings(project: Project) -> list[Any]:
    return list(verify(Workspace(project.workspace), hashes=False).findings)


def test_every_round_is_measured_and_a_killed_measurement_goes_on(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, whole = make(tmp_path / "killed", model), make(tmp_path / "whole", model)
    bring(whole, monkeypatch, 1)
    with monkeypatch.context() as patch:
        # The third batch of a stage: held-out answers have two, twenty gold answers have four.
        patch.setenv(VARIABLE, "batch_written:3")
        with pytest.raises(StageDied):
            bring(killed, patch, 0)
    begun = table(killed, "gold_judgements")
    assert 0 < len(begun) < 10 * 2 * 3, "two batches are in the store, the killed one is not"
    bring(killed, monkeypatch, 1)
    for name in ("gold_judgements", "judgements", "evaluations", "pairs"):
        assert table(killed, name) == table(whole, name), name
    assert findings(whole) == []

    figures = whole.sql("select * from evaluations where metric = 'judge_pairwise_accuracy' and split = 'gold_test'")
    assert [(row["round"], row["n"]) for row in sorted(figures, key=lambda row: row["round"])] == [(0, 10), (1, 10)]
    for row in figures:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert set(json.loads(row["detail"])["by_kind"]) == set(KINDS)
    verifier = whole.sql(
        "select value, n from evaluations where metric = 'judge_pairwise_accuracy' and split like 'gold_test/verifier-%' "
        "and round = 0"
    )
    constrained = whole.sql("select count(distinct gold_key) n from gold_judgements where judge = 'verifier'")[0]["n"]
    assert verifier == [{"value": 1.0, "n": constrained}]
    made_by = whole.sql(
        "select distinct g.round, g.weights_hash = r.weights_hash as own from gold_judgements g join rounds r "
        "using (round) where g.weights_hash is not null order by 1"
    )
    assert made_by == [{"round": 0, "own": True}, {"round": 1, "own": True}]

    # A change of a gold item concerns the measurement and nothing else.
    lines = (whole.folder / "gold.jsonl").read_text(encoding="utf-8")
    (whole.folder / "gold.jsonl").write_text(lines.replace("well, is", "hm, is"), encoding="utf-8")
    monkeypatch.chdir(whole.folder)
    with session(load_config(Path("run.yaml")), Silent(), on_change="branch") as context:
        assert stale_stages(context) == []
    archived = whole.sql("select distinct of_stage from archived_gold_judgements")
    assert archived == [{"of_stage": "calibrate"}]
    assert {(r["round"], r["stage"]) for r in table(whole, "archived_stages")} == {(0, "calibrate"), (1, "calibrate")}


def test_the_command_measures_runs_and_configs(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "project", model)
    alone = project.selfalign("calibrate", "run.yaml", "--judge", "rubric_logits", "--items", "4")
    assert alone.returncode == 0, alone.stderr
    assert "rubric_logits" in alone.stdout
    assert not project.workspace.exists(), "a config without a run leaves nothing behind"

    project.write(rounds=1, calibrate={"enabled": "never", "gold": "gold.jsonl"})
    bring(project, monkeypatch, 1)
    votes = "{id: rubric_votes, rubric: judges/additive_short, votes: 2, min_valid_votes: 1, max_tokens: 4}"
    done = project.selfalign("calibrate", "tiny", "--judge", votes, "--judge", "weighted_own", "--json")
    assert done.returncode == 2
    assert "weighted_own" in done.stderr
    done = project.selfalign("calibrate", "tiny", "--fit", "--json")
    assert done.returncode == 0, done.stderr
    own, verifier, rubric = json.loads(done.stdout)
    assert (own["judge"], own["round"], own["n"], own["member_of"]) == ("weighted", 1, 12, None)
    assert (verifier["judge"], verifier["judge_pairwise_accuracy"], verifier["skipped"]) == ("verifier", 1, 6)
    assert rubric["member_of"] == "weighted"
    assert own["fit"]["n"] == 6
    assert {answer["split"] for answer in (own, verifier, rubric)} == {"test"}
    _a_jury_is_weighed_by(project.folder / "calibration.json", done.stdout)
    assert own["seconds_a_judgement"] > 0
    rows = project.sql("select split, n from evaluations where metric = 'judge_pairwise_accuracy' and round = 1")
    assert {row["split"].partition("-")[0] for row in rows} == {
        f"gold_test/{n}" for n in ("weighted", "verifier", "rubric_logits")
    }

    judged = table(project, "gold_judgements")
    again = project.selfalign("calibrate", "tiny", "--judge", votes, "--round", "1")
    assert again.returncode == 0, again.stderr
    assert "rubric_votes" in again.stdout
    assert len(table(project, "gold_judgements")) == len(judged) + 2 * 12 * 2
    assert findings(project) == []

    # Going back takes along what was measured of the weights that go.
    with session(load_config(Path("run.yaml")), Silent()) as context:
        discard_after(context, 0)
    assert table(project, "gold_judgements") == []
    assert project.sql("select 1 from evaluations where round = 1") == []
    assert findings(project) == []


def _a_jury_is_weighed_by(file: Path, printed: str) -> None:
    """The command's own output, as a file, is what ``weights: calibration`` takes."""
    file.write_text(printed, encoding="utf-8")
    accuracy = {
        answer["judge_hash"]: (answer["judge_pairwise_accuracy"], answer["n"]) for answer in json.loads(printed)
    }
    members = [{"id": "verifier"}, {"id": "rubric_logits"}]
    config = JuryJudge.Config.model_validate({"members": members, "weights": "calibration", "calibration": str(file)})
    jury = JuryJudge(config, JudgeContext(None, 3, 1, Templates([shipped_prompts()])))
    given = {judge_hash: log_odds(*accuracy[judge_hash]) for judge_hash in _hashes(members)}
    assert sum(weight > 0 for weight in given.values()) >= 1, "the verifier is always right"
    assert dict(jury.member_weights) == {name: weight for name, weight in given.items() if weight > 0}


def _hashes(members: list[dict[str, Any]]) -> list[str]:
    context = JudgeContext(None, 3, 1, Templates([shipped_prompts()]))
    plugins = [(find("judge", member["id"]).load(), member) for member in members]
    return [plugin(plugin.Config.model_validate(member), context).judge_hash for plugin, member in plugins]


def test_wrong_questions_are_bad_input(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "project", model)
    for arguments, expected in (
        (("run.yaml", "--round", "3"), "a config has only M0"),
        (("run.yaml", "--gold", "none.jsonl"), "none.jsonl"),
        (("run.yaml", "--split", "dev"), "known: teach, calibrate, test"),
        (("nothing",), "no run here"),
    ):
        refused = project.selfalign("calibrate", *arguments)
        assert refused.returncode == 2, arguments
        assert expected in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    monkeypatch.chdir(project.folder)
    project.write(calibrate={"gold": "none.jsonl"})
    with pytest.raises(PromptFileError, match=r"none\.jsonl"), session(load_config(Path("run.yaml")), Silent()):
        pass
    assert not project.workspace.exists()
