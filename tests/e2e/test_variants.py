"""Other trainers and references through the whole loop."""

from __future__ import annotations

import json
import math

import pytest

from selfalign.pairing.strength import preference_loss
from selfalign.training.adapters import origin
from tests.e2e.project import Project


def test_lora_against_the_initial_reference(project: Project) -> None:
    project.write(
        train={
            "id": "dpo", "method": "lora", "learning_rate": 1e-2, "batch_size": 2, "micro_batch_size": 2, "epochs": 2,
            "reference": "initial", "lora": {"r": 4, "alpha": 8, "chain": "stack"},
        },
    )  # fmt: skip
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    rows = project.sql(
        "select c.*, r.weights_hash as m0 from checkpoints c join rounds r on r.round = 0 order by c.round"
    )
    assert [row["reference_hash"] for row in rows] == [rows[0]["m0"]] * 2
    first, second = (json.loads(row["metrics"]) for row in rows)
    assert first["guard_loss"] == pytest.approx(math.log(2), abs=1e-4)
    # Round 2 starts at M1, which is not the reference: the loss is what the two models imply, and not ln 2.
    assert second["guard_loss"] == pytest.approx(second["guard_loss_expected"], abs=1e-4)
    assert abs(second["guard_loss"] - math.log(2)) > 1e-4
    assert not list((project.workspace / "checkpoints" / "round-1").glob("adapter_*")), "merged at the round's end"
    # The adapter of round 1 went on in round 2: both are added to M0's weights.
    assert [origin(project.workspace / row["path"]).weights_hash for row in rows] == [rows[0]["m0"]] * 2


def test_margins_and_smoothing_by_strength_of_the_votes(project: Project) -> None:
    """Secrets of RLHF II from votes to loss: with the policy as reference h = 0, so each pair's loss is known."""
    project.write(
        rounds=1,
        judge={"id": "jury", "members": [{"id": "verifier"}, {"id": "rubric_logits"}]},
        pair={"id": "max_min", "strength": {"margin": "mean", "weight": "std"}},
        train={
            "id": "cdpo", "label_smoothing": "pair", "margin_scale": 2.0, "order": "easy_to_hard",
            "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8,
        },
    )  # fmt: skip
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    pairs = project.sql(
        "select p.margin, p.weight, (e.detail::json ->> 'smoothing')::double as smoothing from pairs p "
        "join events e on e.kind = 'pair_strength' and e.subject_id = p.pair_id"
    )
    losses = [p["weight"] * preference_loss(0.0, label_smoothing=p["smoothing"], margin=2 * p["margin"]) for p in pairs]
    (row,) = project.sql("select trainer, reference_hash, parent_id, metrics from checkpoints")
    assert (row["trainer"], row["reference_hash"]) == ("cdpo", row["parent_id"])
    metrics = json.loads(row["metrics"])
    assert len({p["smoothing"] for p in pairs}) > 1
    assert metrics["guard_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert metrics["guard_loss_expected"] == pytest.approx(sum(losses) / len(losses), abs=1e-9)
    assert list((project.workspace / ".selfalign" / "logprobs").iterdir()), "kept for later rounds"
    assert project.selfalign("verify", "tiny").returncode == 0


def test_sft_on_the_chosen_answers(project: Project) -> None:
    train = {"id": "sft", "learning_rate": 1e-2, "batch_size": 2, "micro_batch_size": 2}
    project.write(rounds=1, train=train)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    row = project.sql("select trainer, n_examples, weights_hash, parent_id from checkpoints")[0]
    assert row["trainer"] == "sft"
    assert row["n_examples"] == project.sql("select count(*) n from pairs")[0]["n"]
    assert row["weights_hash"] != row["parent_id"]
