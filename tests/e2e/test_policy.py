"""Three rounds through the real stages: started anew, compared with an average, on rows of earlier rounds, with lists."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from selfalign.changes import stale_stages
from selfalign.config import load_config
from selfalign.disk import references
from selfalign.disk.retention import apply_retention
from selfalign.fork import fork_run
from selfalign.identity import hash_weights
from selfalign.plan import estimate, print_plan
from selfalign.progress import Silent
from selfalign.rounds import begin_round, run_round_stage
from selfalign.session import session
from selfalign.stages import train
from selfalign.stages.context import RunContext
from selfalign.stages.examples import Encoder
from selfalign.stages.jobs import JobFolder
from selfalign.stages.set_aside import go_back
from selfalign.store.store import Store
from selfalign.training.average import Source, build
from selfalign.training.pairwise import DPOTrainer
from selfalign.training.policy import load_tokenizer
from selfalign.types import Candidate, Pair, Prompt
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.project import Project
from tests.training.examples import job

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
TRAIN = {
    "id": "dpo", "learning_rate": [1e-3, 5e-4], "beta": [0.1, 0.2, 0.3], "reference": ["previous", {"ema": 0.5}],
    "batch_size": 4, "micro_batch_size": 2, "save_every": None,
}  # fmt: skip
POLICY = {"start": ["previous", "base"], "data": ["this", {"last": 2}, {"replay": [0.5, 0.34]}]}
#: What is measured after training plays no part here.
STAGES = ("prompts", "generate", "judge", "pair", "train")


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Rounds 1 to 3 up to their training; read-only, see :func:`project`."""
    project = Project(tmp_path_factory.mktemp("policy") / "project", tiny_model, None)
    path = project.write(rounds=3, policy=POLICY, train=TRAIN, pair={"id": "max_min", "min_margin": [0, 0.01]})
    with contextlib.chdir(project.folder), session(load_config(path), Silent()) as context:
        begin_round(context, 0)
        for round in (1, 2, 3):
            begin_round(context, round)
            for name in STAGES:
                run_round_stage(context, round, name)
            apply_retention(context, round)
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    shutil.copytree(trained.folder, tmp_path / "copy")
    return Project(tmp_path / "copy", trained.model, None)


def checkpoints(project: Project) -> list[dict[str, Any]]:
    rows = project.sql("select *, config::json as settings from checkpoints order by round")
    return [{**row, "settings": json.loads(row["settings"]), "metrics": json.loads(row["metrics"])} for row in rows]


def folder(project: Project, round: int) -> Path:
    return project.model if round == 0 else project.workspace / checkpoints(project)[round - 1]["path"]


def average(project: Project, number: int, ema: float = 0.5) -> dict[str, torch.Tensor]:
    """Of M_0 to M_number, in plain words."""
    found = load_file(folder(project, 0) / "model.safetensors")
    for round in range(1, number + 1):
        added = load_file(folder(project, round) / "model.safetensors")
        found = {name: tensor * ema + added[name] * (1 - ema) for name, tensor in found.items()}
    return found


def test_each_round_starts_from_and_is_compared_with_what_the_policy_says(trained: Project) -> None:
    one, two, three = checkpoints(trained)
    m0 = hash_weights(trained.model)
    assert [row["parent_id"] for row in (one, two, three)] == [m0] * 3
    assert len({row["weights_hash"] for row in (one, two, three)} | {m0}) == 4
    assert one["reference_hash"] == m0
    # The last average is there: the folder that was compared with, of all models so far.
    (left,) = (trained.workspace / "references").iterdir()
    assert left.name.startswith("round-3-"), "the one of round 2 went when round 3 had its own"
    assert three["reference_hash"] == hash_weights(left)
    expected = average(trained, 2)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(left / "model.safetensors").items())
    assert two["reference_hash"] not in (m0, one["weights_hash"], three["reference_hash"])
    # M_1 and M_2 answered, whatever was trained.
    made = trained.sql("select distinct round, weights_hash from candidates where split = 'train' order by round")
    assert [row["weights_hash"] for row in made] == [m0, one["weights_hash"], two["weights_hash"]]


def test_the_average_of_round_2_can_be_made_again(trained: Project, tmp_path: Path) -> None:
    one, two, _ = checkpoints(trained)
    sources = [Source(folder(trained, round), hash_weights(folder(trained, round))) for round in (0, 1)]
    models = [source.weights_hash for source in sources]
    assert build(sources[0], sources[1:], 0.5, models, tmp_path / "again") == two["reference_hash"]
    assert models[1] == one["weights_hash"]


def test_lists_and_policy_are_recorded_by_round(trained: Project) -> None:
    rows = trained.sql("select * from round_policy order by round")
    assert [(r["starts_from"], r["reference"], r["data"]) for r in rows] == [
        ("M0", "M0", "this"), ("M0", "average of M0 to M1, decay 0.5", '{"last":2}'),
        ("M0", "average of M0 to M2, decay 0.5", '{"replay":[0.5,0.34]}'),
    ]  # fmt: skip
    assert [(r["beta"], r["learning_rate"]) for r in rows] == [(0.1, 1e-3), (0.2, 5e-4), (0.3, 5e-4)]
    assert [row["settings"]["beta"] for row in checkpoints(trained)] == [0.1, 0.2, 0.3]


def test_the_loss_starts_where_start_and_reference_say(trained: Project) -> None:
    one, two, three = (row["metrics"] for row in checkpoints(trained))
    assert one["guard_loss"] == pytest.approx(math.log(2), abs=1e-4)
    for later in (two, three):
        assert later["guard_loss"] == pytest.approx(later["guard_loss_expected"], abs=1e-4)
        assert abs(later["guard_loss"] - math.log(2)) > 1e-3
        assert later["guard_logp_gap"] < 1e-3, "the policy is M0"


def test_which_pairs_trained_which_round(trained: Project) -> None:
    made = {
        round: {row["pair_id"] for row in trained.sql(f"select pair_id from pairs where round = {round}")} for round in (1, 2, 3)
    }  # fmt: skip
    given = {
        (round, origin): {row["example_id"] for row in trained.sql(
            f"select example_id from trained_on where round = {round} and from_round = {origin}"
        )}
        for round in (1, 2, 3) for origin in (1, 2, 3)
    }  # fmt: skip
    assert given[1, 1] == made[1] and given[2, 2] == made[2] and given[3, 3] == made[3]
    assert given[2, 1] == made[1]
    assert given[3, 2] < made[2] and len(given[3, 2]) == len(made[2]) // 2
    assert given[3, 1] < made[1] and len(given[3, 1]) == math.floor(0.34 * len(made[1]))
    assert [row["n_examples"] for row in checkpoints(trained)] == [
        len(made[1]), len(made[1]) + len(made[2]), len(made[3]) + len(given[3, 2]) + len(given[3, 1]),
    ]  # fmt: skip
    lineage = trained.sql("select distinct example_id, trained_round, checkpoint_id from lineage")
    last = checkpoints(trained)[2]["checkpoint_id"]
    of_the_last = {row["example_id"] for row in lineage if row["checkpoint_id"] == last}
    assert of_the_last == made[3] | given[3, 2] | given[3, 1]


def test_m3_is_what_the_trainer_makes_of_these_pairs(trained: Project, tmp_path: Path) -> None:
    """The stage aside: the trainer by hand, on the rows that the store says, gives the very same weights."""
    store = Store(trained.workspace / "store.duckdb")
    rows = store.rows(Pair, "pair_id in (select example_id from trained_on where round = 3)")
    encoder = Encoder(
        load_tokenizer(trained.model), None, {p.prompt_id: p for p in store.rows(Prompt)},
        {c.candidate_id: c for c in store.rows(Candidate)}, {}, {},
    )  # fmt: skip
    with contextlib.chdir(trained.folder):
        config = load_config(trained.folder / "run.yaml")
    context = RunContext(config, Workspace(trained.workspace), store, Silent())
    work = job(
        tmp_path / "work", trained.model, next((trained.workspace / "references").iterdir()),
        pairs=encoder.examples({"pairs": rows}, "pairs"),
    )  # fmt: skip
    object.__setattr__(work, "seed", train._seed(context, 3))
    DPOTrainer(config.trainer(3)).train(work)
    assert hash_weights(work.output) == checkpoints(trained)[2]["weights_hash"]


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))
def test_the_queries_of_the_page_answer(trained: Project, query: str) -> None:
    assert len(trained.sql(query)) >= 3


def test_the_plan_is_printed_with_a_row_a_kind_of_round(trained: Project) -> None:
    with contextlib.chdir(trained.folder):
        work = estimate(load_config(trained.folder / "run.yaml"))
    printed = StringIO()
    print_plan(work, Console(file=printed, width=160, highlight=False))
    assert [row["rounds"] for row in work["policy"]] == [[1], [2], [3]]
    assert "this, 50 % of t-1, 34 % of t-2" in printed.getvalue()
    assert json.loads(json.dumps(work))["policy"][2]["reference"] == "average, decay 0.5"


def test_a_fork_has_the_average_to_go_on_from(project: Project) -> None:
    with Store(project.workspace / "store.duckdb").write() as transaction:
        transaction.execute("update rounds set status = 'done' where round < 3")
    with contextlib.chdir(project.folder):
        config = fork_run(
            Workspace(Path("runs/tiny")), 2, "child", overrides=None, workspace=None, reporter=Silent()
        )  # fmt: skip
        workspace = Workspace(config.workspace_path())
        context = RunContext(config, workspace, Store(workspace.store_path), Silent())
        assert references.recipe(context, 3, 0.5).added == ()
        assert [row.name for row in workspace.references.iterdir()] == [
            row.name for row in (project.workspace / "references").iterdir()
        ]


def test_verify_has_nothing_to_say_and_finds_damage(project: Project) -> None:
    workspace = Workspace(project.workspace)
    assert verify(workspace).findings == ()

    def findings(*statements: str) -> set[tuple[str, str]]:
        """After ``statements``, which are undone."""
        before = workspace.store_path.read_bytes()
        with Store(workspace.store_path).write() as transaction:
            for statement in statements:
                transaction.execute(statement)
        found = {(f.check, f.table) for f in verify(workspace, hashes=False).findings}
        workspace.store_path.with_name("store.duckdb.wal").unlink(missing_ok=True)
        workspace.store_path.write_bytes(before)
        return found

    assert findings("DELETE FROM replays WHERE round = 2") == {("n_examples", "checkpoints")}
    assert findings("UPDATE replays SET example_id = 'x', digest = NULL WHERE round = 3") == {
        ("unknown_example", "replays"),
    }  # fmt: skip
    assert findings("UPDATE replays SET from_round = round, digest = NULL WHERE round = 3") == {
        ("unknown_example", "replays"), ("not_earlier", "replays"),
    }  # fmt: skip
    assert findings("UPDATE replays SET from_round = 2 WHERE round = 2") >= {("changed", "replays")}
    assert findings("UPDATE rounds SET start_hash = parent_hash WHERE round = 2") == {
        ("other_start", "rounds"), ("not_the_rounds_checkpoint", "checkpoints"),
    }  # fmt: skip
    said = 'UPDATE rounds SET policy = json_merge_patch(policy, \'{{"reference": "{}"}}\') WHERE round = 2'
    assert findings(said.format("previous")) == {
        ("not_the_policys_reference", "rounds"), ("unknown_reference", "checkpoints"),
    }  # fmt: skip
    (left,) = (project.workspace / "references").iterdir()
    (left / "average.json").write_text("{}")
    assert [(f.check, f.row_id) for f in verify(workspace).findings] == [("reference", "3")]
    shutil.rmtree(left)
    assert verify(workspace).findings == (), "it is made again where it is needed"


# -- going on ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(project: Project, *settings: str) -> Iterator[RunContext]:
    """The run with other settings, looked at only."""
    with contextlib.chdir(project.folder):
        config = load_config(project.folder / "run.yaml", list(settings))
        workspace = Workspace(config.workspace_path())
        yield RunContext(config, workspace, Store(workspace.store_path), Silent())


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ([], None),
        # As it was, written otherwise.
        (["train.beta=[0.1, 0.2, 0.3, 0.9]", "policy.start=[base]", "policy.data=[all, all, {replay: [0.5, 0.34, 1]}]"], None),
        (["train.reference=[initial, {ema: 0.5}]"], (1, "train")),  # what is recorded would be another word
        (["train.beta=[0.1, 0.2, 0.4]"], (3, "train")),
        (["train.learning_rate=[1.0e-3, 5.0e-4, 1.0e-4]"], (3, "train")),
        (["policy.data=[this, {last: 2}, this]"], (3, "train")),
        (["policy.data=[this, {last: 2}, {replay: [0.5]}]"], (3, "train")),
        (["policy.start=[previous, base, previous]"], (3, "train")),
        (["train.reference=[previous, {ema: 0.5}, {ema: 0.6}]"], (3, "train")),
        (["pair.min_margin=[0, 0.01, 0.02]"], (3, "pair")),
        (["policy=null"], (2, "train")),
    ],
)  # fmt: skip
def test_a_change_concerns_no_earlier_round(
    trained: Project, settings: list[str], first: tuple[int, str] | None
) -> None:
    with opened(trained, *settings) as context:
        stale = stale_stages(context)
    assert (stale[0] if stale else None) == first
    if first is not None and first[0] < 3:
        assert (first[0] + 1, "generate") in stale


def test_a_lost_average_is_made_again_and_the_round_is_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoints(project)[2]
    average, checkpoint = next((project.workspace / "references").iterdir()), project.workspace / before["path"]
    shutil.rmtree(checkpoint)
    shutil.rmtree(average)
    # What a kill leaves while it is written.
    aside = average.with_name(f".{average.name}.partial")
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"half")

    def here(folder: JobFolder, spec: Any, inputs: Any, *, context: RunContext, label: str) -> int:
        """What the stage's process does, without one."""
        folder.prepare(spec, inputs)
        train.work(folder)
        return train.collect(folder, context)

    monkeypatch.setattr(train, "supervise", here)
    with opened(project) as context:
        go_back(context, [(3, "train")], "resume", "by a test")
        assert project.sql("select count(*) as n from replays where round = 3") == [{"n": 0}]
        begin_round(context, 3)
        run_round_stage(context, 3, "train")
    after = checkpoints(project)[2]
    left_out = ("created_at", "n_bytes")
    assert {k: v for k, v in after.items() if k not in left_out} == {
        k: v for k, v in before.items() if k not in left_out
    }
    assert list((project.workspace / "references").iterdir()) == [average]
    assert verify(Workspace(project.workspace)).findings == ()
