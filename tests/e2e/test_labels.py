"""Whole rounds on labels: built, trained on by KTO, counted and verified like pairs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from selfalign.config import Settings, load_config
from selfalign.identity import content_id
from selfalign.progress import Silent
from selfalign.protocols import PairingInput
from selfalign.registry import Plugin, register
from selfalign.rounds import begin_round, end_round, rounds_left, run_round_stage, stages_of
from selfalign.session import session
from selfalign.types import Pairing, UnaryLabel
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.project import Project


class HalvesBuilder:
    """Desirable are the candidates above the middle of a prompt's scores, undesirable the others."""

    name = "halves"
    makes = "labels"

    class Config(Settings):
        id: Literal["halves"] = "halves"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        labels = []
        for group in data.groups:
            scores = {c.candidate.candidate_id: c.score for c in group.candidates if c.score is not None}
            middle = (min(scores.values()) + max(scores.values())) / 2
            labels += [
                UnaryLabel(content_id("label", one), group.prompt.prompt_id, data.round, one, score > middle, score,
                           self.name, 1.0)
                for one, score in scores.items()
            ]  # fmt: skip
        return Pairing(labels=tuple(labels))


@pytest.fixture
def halves() -> Iterator[None]:
    register(Plugin("pair", "halves", f"{__name__}:HalvesBuilder", "the upper half is desirable"))
    yield
    from selfalign import registry

    registry._plugins.pop(("pair", "halves"))


def test_two_rounds_of_kto(tmp_path: Path, tiny_model: Path, halves: None) -> None:
    project = Project(tmp_path / "project", tiny_model, None)
    path = project.write(
        pair="halves",
        train={"id": "kto", "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4},
        evaluate={"log_ratio": False},
    )
    with contextlib.chdir(project.folder), session(load_config(path), Silent()) as context:
        for round in rounds_left(context):
            begin_round(context, round)
            for name in stages_of(round, context.config):
                run_round_stage(context, round, name)
            end_round(context, round)
    rows = project.sql(
        "select k.*, r.labels, r.desirable_labels, r.pairs, r.weights_hash as own from checkpoints k "
        "join round_summary r using (round) order by round"
    )
    assert [row["trainer"] for row in rows] == ["kto", "kto"]
    for row in rows:
        metrics = json.loads(row["metrics"])
        assert (row["pairs"], row["labels"]) == (0, 18)
        assert row["n_examples"] == 18
        assert (metrics["n_desirable"], metrics["n_undesirable"]) == (
            row["desirable_labels"], 18 - row["desirable_labels"],
        )  # fmt: skip
        assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], abs=1e-4)
        assert row["weights_hash"] == row["own"] != row["parent_id"]
    assert rows[1]["parent_id"] == rows[0]["weights_hash"] == rows[1]["reference_hash"]
    assert project.sql("select round, reason, prompts from yields order by round") == [
        {"round": 1, "reason": "paired", "prompts": 6}, {"round": 2, "reason": "paired", "prompts": 6},
    ]  # fmt: skip
    assert project.sql("select count(*) n from lineage where checkpoint_id is not null and kind = 'label'") == [
        {"n": 36}
    ]
    figures = project.sql("select distinct metric from evaluations where split = 'train'")
    assert {"desirable_displacement", "undesirable_displacement", "kl_estimate"} <= {row["metric"] for row in figures}
    assert verify(Workspace(project.workspace)).findings == ()
