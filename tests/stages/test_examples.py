"""Rows as examples, and the stage's process over rows of every kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.chat import encode_chat
from selfalign.identity import hash_weights
from selfalign.registry import find
from selfalign.stages import train
from selfalign.stages.conversations import messages_for
from selfalign.stages.examples import KINDS, Encoder, candidates_of
from selfalign.stages.jobs import JobFolder
from selfalign.store.arrow import from_table
from selfalign.training.policy import load_tokenizer
from selfalign.types import Candidate, Checkpoint, Lesson, Pair, Prompt, Ranking, UnaryLabel

PROMPTS = [
    Prompt(name, 1, "train", f"Say {name}.", "en", "", "", None, None, (), "[]") for name in ("p1", "p2", "p3", "p4")
]
END = 2


def candidate(name: str, ids: tuple[int, ...], end: int | None = END) -> Candidate:
    return Candidate(
        name, name[:2], 1, "train", 0, "w0", "transformers", 1.0, 1.0, 0, 8, 0, "", ids, len(ids), 3,
        "length" if end is None else "stop", end, -1.0,
    )  # fmt: skip


CANDIDATES = [
    candidate(f"{prompt.prompt_id}{side}", (60 + i, 70 + n, 80), None if side == "c" else END)
    for i, prompt in enumerate(PROMPTS)
    for n, side in enumerate("abc")
]
PAIRS = [Pair("x2", "p2", 1, "p2a", "p2c", 3.0, 1.0, 2.0, "j", "b", 1, 0.5),
         Pair("x1", "p1", 1, "p1b", "p1a", 0.8, 0.2, 0.6, "j", "b", 1, 1.0)]  # fmt: skip
LABELS = [UnaryLabel(f"l{i}", p, 1, f"{p}{side}", side == "a", 1.0, "b", 1.0)
          for i, (p, side) in enumerate([("p1", "a"), ("p2", "b"), ("p3", "c"), ("p4", "a")])]  # fmt: skip
RANKINGS = [Ranking("r2", "p2", 1, ("p2b", "p2a"), (2.0, 2.0), "j", "b", 1.0),
            Ranking("r1", "p1", 1, ("p1c", "p1a", "p1b"), (3.0, 1.0, 0.0), "j", "b", 0.5)]  # fmt: skip
LESSONS = [Lesson("e1", 1, "judge", "gold", "g", "j", "h", json.dumps([{"role": "user", "content": "Good?"}]), "It is ",
                  "5", False, 1.0)]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def examples(tokenizer: Any, needs: str, system_prompt: str | None = None, **made: Sequence[Any]) -> list[Any]:
    prompts, candidates = {p.prompt_id: p for p in PROMPTS}, {c.candidate_id: c for c in CANDIDATES}
    return Encoder(tokenizer, system_prompt, prompts, candidates, {}, {}).examples(made, needs)


def test_pairs_carry_their_scores_and_are_in_order_of_id(tokenizer: Any) -> None:
    first, second = examples(tokenizer, "pairs", "Be brief.", pairs=PAIRS)
    assert (first.pair_id, second.pair_id) == ("x1", "x2")
    assert first.prompt_ids == encode_chat(tokenizer, messages_for("Say p1.", "Be brief."))
    assert (first.chosen_ids, first.rejected_ids) == ((60, 71, 80, END), (60, 70, 80, END))
    assert (first.margin, first.weight, first.chosen_score, first.rejected_score) == (0.6, 1.0, 0.8, 0.2)
    assert second.rejected_ids == (61, 72, 80), "no end token is learned where none was sampled"


def test_labels_and_rankings(tokenizer: Any) -> None:
    labels = examples(tokenizer, "labels", labels=LABELS)
    assert [(e.label_id, e.completion_ids[1], e.label) for e in labels] == [
        ("l0", 70, True), ("l1", 71, False), ("l2", 72, False), ("l3", 70, True),
    ]  # fmt: skip
    first, second = examples(tokenizer, "rankings", rankings=RANKINGS)
    assert first.completions == ((60, 72, 80), (60, 70, 80, END), (60, 71, 80, END))
    assert (first.ranking_id, first.scores, first.weight) == ("r1", (3.0, 1.0, 0.0), 0.5)
    assert second.ranking_id == "r2"


@pytest.mark.parametrize(
    ("made", "ids"),
    [
        ({"pairs": PAIRS}, ["p1b", "p2a"]),
        ({"labels": LABELS}, ["p1a", "p4a"]),  # RAFT, ReST: the desirable ones
        ({"rankings": RANKINGS}, ["p1c", "p2b"]),  # the first of equals
        ({"lessons": LESSONS}, ["e1"]),
        ({}, []),
    ],
)
def test_supervised_fine_tuning_takes_the_good_answers(tokenizer: Any, made: dict[str, Any], ids: list[str]) -> None:
    found = examples(tokenizer, "completions", **made)
    assert [e.example_id for e in found] == ids
    by_id = {c.candidate_id: c for c in CANDIDATES}
    for example in found:
        if example.example_id in by_id:
            assert example.completion_ids == by_id[example.example_id].sampled_ids


def test_a_lesson_is_learned_behind_its_own_messages(tokenizer: Any) -> None:
    (lesson,) = examples(tokenizer, "completions", lessons=LESSONS)
    assert tokenizer.decode(lesson.prompt_ids).endswith("It is ")
    assert lesson.completion_ids == (tokenizer("5")["input_ids"][0],)


def test_rows_of_another_kind_give_nothing(tokenizer: Any) -> None:
    assert examples(tokenizer, "labels", pairs=PAIRS) == []
    assert candidates_of(RANKINGS[1]) == ("p1c", "p1a", "p1b")
    assert candidates_of(LESSONS[0]) == ()


@pytest.mark.parametrize(
    ("trainer", "name", "n"),
    [
        ("kto", "labels", 4),
        ("rrhf", "rankings", 1),
        ("pro", "rankings", 1),
        ("sft", "labels", 2),
        ("sft", "rankings", 1),
    ],
)
def test_the_stages_process_trains_on_what_the_round_made(
    tiny_model: Path, tmp_path: Path, trainer: str, name: str, n: int
) -> None:
    rows = {"labels": LABELS, "rankings": RANKINGS[1:]}[name]
    settings = find("train", trainer).load().Config.model_validate({"learning_rate": 1e-3, "warmup_ratio": 0.0})
    weights = hash_weights(tiny_model)
    spec = {
        "round": 1, "seed": 7, "fingerprint": "f", "train": settings.model_dump(mode="json"),
        "parent": str(tiny_model), "parent_hash": weights, "reference": str(tiny_model), "reference_hash": weights,
        "system_prompt": None, "final": str(tmp_path / "final"), "final_relative": "final",
        "cache": str(tmp_path / "cache"), "base": None,
    }  # fmt: skip
    folder = JobFolder(tmp_path / "job")
    folder.path.mkdir()
    wanted = {one for row in rows for one in candidates_of(row)}
    candidates = [c for c in CANDIDATES if c.candidate_id in wanted]
    folder.prepare(spec, {name: rows, "candidates": candidates, "prompts": PROMPTS})
    train.work(folder)
    ((_, tables),) = folder.collect()
    (row,) = from_table(Checkpoint, tables["checkpoints"])
    assert (row.trainer, row.n_examples, row.parent_id) == (trainer, n, weights)
    assert row.reference_hash == (weights if trainer == "kto" else None)
    assert hash_weights(tmp_path / "final") == row.weights_hash != weights
    metrics = json.loads(row.metrics)
    assert metrics["guard_loss"] == pytest.approx(metrics["guard_loss_expected"], abs=1e-3)


def test_every_kind_of_row_is_a_table() -> None:
    from selfalign.types import TABLES

    assert set(KINDS.values()) <= set(TABLES)
