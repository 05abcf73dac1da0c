"""What people say of pairs is what rounds train on: between the stages of a round, and in later rounds."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from selfalign.changes import stale_stages
from selfalign.config import load_config
from selfalign.errors import EmptyStage
from selfalign.fork import fork_run
from selfalign.history import open_run, roll_back
from selfalign.progress import Silent
from selfalign.reviews import append, make_review
from selfalign.rounds import begin_round, end_round, run_round_stage
from selfalign.session import held
from selfalign.stages import train
from selfalign.stages.context import RunContext
from selfalign.stages.jobs import JobFolder
from selfalign.stages.launch import StageProcess
from selfalign.stages.set_aside import go_back
from selfalign.store.store import Store
from selfalign.types import Override, Pair, Replay, Review
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.in_process import InProcess
from tests.e2e.project import Project

STAGES = ("prompts", "generate", "judge", "pair", "train")


class Watching(InProcess):
    """Remembers the pairs that each training was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[list[Pair]] = []

    def start(self, job: Path, log: Path, environment: Mapping[str, str], modules: Sequence[str] = ()) -> StageProcess:
        folder = JobFolder(job)
        if folder.spec()["kind"] == "train":
            self.trained.append(folder.rows("pairs", Pair))
        return super().start(job, log, environment, modules)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[RunContext]:
    with contextlib.chdir(folder):
        config = load_config(folder / "run.yaml")
        workspace = Workspace(config.workspace_path())
        workspace.create()
        with held(workspace, config, Silent()) as context:
            context.launcher = Watching()
            open_run(context)
            yield context


@pytest.fixture(scope="module")
def paired(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Round 1 up to its pairs; read-only, see :func:`folder`."""
    project = Project(tmp_path_factory.mktemp("reviews") / "project", tiny_model, None)
    project.write(
        policy={"data": "all"}, pair={"id": "max_min"},
        train={"id": "dpo", "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4, "save_every": None},
    )  # fmt: skip
    with opened(project.folder) as context:
        begin_round(context, 0)
        make(context, 0, ("prompts", "answer", "evaluate"))
        end_round(context, 0)
        begin_round(context, 1)
        make(context, 1, STAGES[:-1])
        assert len(context.store.rows(Pair)) >= 4
    return project.folder


@pytest.fixture
def folder(paired: Path, tmp_path: Path) -> Path:
    shutil.copytree(paired, tmp_path / "copy")
    return tmp_path / "copy"


def make(context: RunContext, round: int, stages: Sequence[str]) -> None:
    for name in stages:
        run_round_stage(context, round, name)


def say(context: RunContext, pair: Pair, decision: Any, note: str = "") -> Review:
    return append(
        context.workspace.reviews, make_review(pair.pair_id, pair.round, decision, note, "me", datetime.now(UTC))
    )


def given(store: Store, round: int) -> dict[str, str | None]:
    rows = store.query("select example_id, review from trained_on where round = ?", (round,)).to_pylist()
    return {row["example_id"]: row["review"] for row in rows}


def sides(pairs: Sequence[Pair]) -> dict[str, tuple[str, str, float]]:
    return {pair.pair_id: (pair.chosen_id, pair.rejected_id, pair.margin) for pair in pairs}


def damage(context: RunContext) -> list[tuple[str, str]]:
    """What ``verify`` finds beside stages that this run has not come to."""
    found = verify(context.workspace).findings
    return [(finding.check, finding.what) for finding in found if finding.check != "round_not_done"]


def test_this_round_and_later_ones_train_as_people_said(folder: Path) -> None:
    with opened(folder) as context:
        one, two, three, *_, last = context.store.rows(Pair, "round = 1")
        said = say(context, one, "flip", "the other is right")
        say(context, two, "reject")
        say(context, three, "reject")
        say(context, three, "withdraw")
        say(context, last, "accept")
        make(context, 1, ["train"])
        before, watched = context.store.rows(Pair), context.launcher.trained[0]  # type: ignore[attr-defined]
        assert sides(watched) == {
            **{p.pair_id: v for p in before if p != two for v in sides([p]).values()},
            one.pair_id: (one.rejected_id, one.chosen_id, one.margin),
        }  # fmt: skip
        assert given(context.store, 1) == {p.pair_id: "flip" if p == one else None for p in before if p != two}
        (made,) = context.store.query("select n_examples from checkpoints")["n_examples"].to_pylist()
        assert made == len(before) - 1
        text = context.store.query("select * from review_text where decision = 'flip'").to_pylist()
        assert [(r["note"], r["reviewer"], r["holds"], r["trained_rounds"], r["review_id"]) for r in text] == [
            ("the other is right", "me", True, [1], said.review_id)
        ]
        lineage = context.store.query("select distinct example_id, review, trained_round from lineage").to_pylist()
        assert {(r["example_id"], r["review"], r["trained_round"]) for r in lineage} == {
            (p.pair_id, {one.pair_id: "flip", two.pair_id: "reject"}.get(p.pair_id), None if p == two else 1)
            for p in before
        }  # fmt: skip
        assert before == context.store.rows(Pair), "the pairs stay as the judge made them"
        assert damage(context) == []

        # After the training: of no consequence to it, and honoured by the round that takes its pairs again.
        say(context, last, "reject")
        say(context, one, "accept")
    with opened(folder) as context:
        assert stale_stages(context) == []
        make(context, 1, ["train"])
        assert context.launcher.trained == []  # type: ignore[attr-defined]
        assert given(context.store, 1)[one.pair_id] == "flip"
        end_round(context, 1)
        begin_round(context, 2)
        make(context, 2, STAGES)
        own = {pair.pair_id for pair in context.store.rows(Pair, "round = 2")}
        assert given(context.store, 2) == dict.fromkeys(
            own | ({p.pair_id for p in before} - {two.pair_id, last.pair_id})
        )
        assert {row.example_id for row in context.store.rows(Replay)} == set(given(context.store, 2)) - own
        assert sides(context.launcher.trained[0])[one.pair_id] == sides([one])[one.pair_id]  # type: ignore[attr-defined]
        assert [(o.round, o.pair_id) for o in context.store.rows(Override, "round = 2")] == [
            (2, pair_id) for pair_id in sorted((two.pair_id, last.pair_id))
        ]
        assert damage(context) == []


def test_the_fingerprint_changes_only_where_the_training_does(folder: Path) -> None:
    with opened(folder) as context:
        one, two, *_ = context.store.rows(Pair, "round = 1")

        def fingerprint() -> str:
            train.reviewed.settle(context, 1)
            return train.fingerprint(context, 1)

        plain = train.fingerprint(context, 1)
        say(context, one, "accept")
        append(context.workspace.reviews, make_review("of-another-run", 1, "reject", "", "me", datetime.now(UTC)))
        assert fingerprint() == plain
        say(context, one, "flip")
        flipped = fingerprint()
        say(context, one, "flip", "the same, with a note")
        assert flipped == fingerprint() != plain
        say(context, two, "reject")
        assert fingerprint() not in (flipped, plain)
        say(context, one, "withdraw")
        say(context, two, "accept")
        assert fingerprint() == plain


def test_where_all_are_rejected_the_run_stops_and_goes_on_when_somebody_says_so(folder: Path) -> None:
    with opened(folder) as context:
        pairs = context.store.rows(Pair)
        for pair in pairs:
            say(context, pair, "reject")
        for _ in range(2):
            with pytest.raises(EmptyStage, match="every pair was rejected in review"):
                make(context, 1, ["train"])
    with opened(folder) as context:
        with pytest.raises(EmptyStage):
            make(context, 1, ["train"])
        say(context, pairs[0], "accept")
    with opened(folder) as context:
        begin_round(context, 1)
        make(context, 1, ["train"])
        assert given(context.store, 1) == {pairs[0].pair_id: None}
        assert damage(context) == []


def test_a_branch_comes_back_with_what_was_said_when_it_was_trained(folder: Path) -> None:
    with opened(folder) as context:
        one, two, *_ = context.store.rows(Pair, "round = 1")
        say(context, one, "flip")
        make(context, 1, ["train"])
        before = context.store.rows(Override)
        first = context.store.query("select weights_hash from checkpoints")["weights_hash"].to_pylist()
        branch = go_back(context, [(1, "train")], "config", "a test")
        assert context.store.rows(Override) == []
        say(context, two, "reject")
        begin_round(context, 1)
        make(context, 1, ["train"])
        assert {o.pair_id for o in context.store.rows(Override)} == {one.pair_id, two.pair_id}
        assert (1, "train") in roll_back(context, branch)
        assert context.store.rows(Override) == before
        assert context.store.query("select weights_hash from checkpoints")["weights_hash"].to_pylist() == first
        assert len(context.store.rows(Review)) == 2, "what people said belongs to no branch"
        assert damage(context) == []


def test_verify_finds_an_override_that_no_review_says(folder: Path) -> None:
    with opened(folder) as context:
        one, two, *_ = context.store.rows(Pair, "round = 1")
        said = [say(context, one, "flip"), say(context, two, "flip")]
        make(context, 1, ["train"])
        with context.store.write() as transaction:
            transaction.execute("update reviews set decision = 'accept' where review_id = ?", [said[0].review_id])
            transaction.execute("update overrides set pair_id = 'gone' where pair_id = ?", [two.pair_id])
        checks = {check for check, _ in damage(context)}
        assert checks == {"not_the_review", "unknown_example", "changed"}


def test_a_fork_has_the_reviews(folder: Path) -> None:
    with opened(folder) as context:
        one, *_ = context.store.rows(Pair, "round = 1")
        say(context, one, "reject")
    with contextlib.chdir(folder):
        origin = Workspace(context.workspace.path)
        config = fork_run(origin, 0, "other", overrides=None, workspace=None, reporter=Silent())
        assert origin.reviews.read_bytes() == Workspace(config.workspace_path()).reviews.read_bytes()
