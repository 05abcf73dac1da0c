"""Rows with every field filled; a test names only the fields it is about."""

from __future__ import annotations

from typing import Any

from selfalign.types import (
    Candidate,
    Checkpoint,
    Evaluation,
    Event,
    GoldJudgement,
    Judgement,
    JudgementPair,
    Lesson,
    MetaJudgement,
    Override,
    Pair,
    Prompt,
    Ranking,
    Replay,
    Review,
    Selection,
    UnaryLabel,
)


def prompt(prompt_id: str = "p1", **changes: Any) -> Prompt:
    values: dict[str, Any] = {
        "round": 1, "split": "train", "text": f"text of {prompt_id}", "language": "en", "category": "qa",
        "origin": "test", "parent_id": None, "rouge_max": None, "instruction_id_list": (), "kwargs": "[]",
    }  # fmt: skip
    return Prompt(prompt_id, **values | changes)


def candidate(candidate_id: str = "c1", prompt_id: str = "p1", **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "round": 1, "split": "train", "sample_idx": 0, "weights_hash": "w0", "engine": "scripted",
        "temperature": 0.7, "top_p": 0.9, "top_k": 0, "max_tokens": 64, "seed": 7, "text": f"text of {candidate_id}",
        "token_ids": (1, 2, 3), "n_tokens": 3, "n_prompt_tokens": 5, "finish_reason": "stop",
        "end_token_id": 2, "logprob": -1.5,
    }  # fmt: skip
    return Candidate(candidate_id, prompt_id, **values | changes)


def judgement(judgement_id: str, candidate_id: str = "c1", **changes: Any) -> Judgement:
    values: dict[str, Any] = {
        "round": 1, "judge": "rubric", "judge_hash": "h", "weights_hash": "w0", "sample_idx": 0, "score": 3.0,
        "outcome": "ok", "raw": "Score: 3", "seed": 9, "detail": "{}",
    }  # fmt: skip
    return Judgement(judgement_id, candidate_id, **values | changes)


def gold_judgement(judgement_id: str = "g1") -> GoldJudgement:
    return GoldJudgement(
        judgement_id, "gold-1", "test", "c1", 1, "rubric", "h", "w0", 0, 3.0, "ok", "Score: 3", 9, "{}"
    )


def pair(pair_id: str, chosen: str, rejected: str, prompt_id: str = "p1", **changes: Any) -> Pair:
    values: dict[str, Any] = {
        "round": 1, "chosen_score": 4.0, "rejected_score": 1.0, "margin": 3.0, "judge": "rubric",
        "builder": "max_min", "n_votes": 2, "weight": 1.0,
    }  # fmt: skip
    return Pair(pair_id=pair_id, prompt_id=prompt_id, chosen_id=chosen, rejected_id=rejected, **values | changes)


def checkpoint(checkpoint_id: str = "k1", **changes: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "round": 1, "parent_id": "w0", "weights_hash": "w1", "path": "checkpoints/round-1", "trainer": "dpo",
        "method": "full", "reference_hash": "w0", "n_examples": 2, "n_bytes": 100, "config": "{}", "metrics": "{}",
    }  # fmt: skip
    return Checkpoint(checkpoint_id, **values | changes)


def evaluation(metric: str, value: float | None, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {"round": 1, "split": "held_out", "low": None, "high": None, "n": 10, "detail": "{}"}
    return Evaluation(run="r", metric=metric, value=value, **values | changes)


def event(event_id: str, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "round": 1, "stage": "pair", "kind": "no_pair", "subject_id": "p1", "message": "all tied", "detail": "{}",
    }  # fmt: skip
    return Event(event_id, **values | changes)


def selection(selection_id: str = "s1") -> Selection:
    return Selection(selection_id, 1, "p1", "c1", "rso", True, 0, 2.5, "{}")


def lesson(lesson_id: str = "l1") -> Lesson:
    return Lesson(lesson_id, 1, "judge", "gold", "g1", "rubric_logits", "h", "[]", "Score: ", "5", False, 1.0)


def meta_judgement(meta_id: str = "m1", **changes: Any) -> MetaJudgement:
    values: dict[str, Any] = {
        "round": 1, "candidate_id": "c1", "judge": "rubric", "judge_hash": "h", "first_id": "j1", "second_id": "j2",
        "meta_hash": "mh", "weights_hash": "w0", "winner": "first", "p_first": 1.0, "outcome": "ok", "raw": "Winner: A", "seed": 9,
        "detail": "{}",
    }  # fmt: skip
    return MetaJudgement(meta_id, **values | changes)


def judgement_pair(pair_id: str = "jp1", **changes: Any) -> JudgementPair:
    values: dict[str, Any] = {
        "round": 1, "candidate_id": "c1", "judge": "rubric", "judge_hash": "h", "messages": "[]", "chosen_id": "j1",
        "rejected_id": "j2", "chosen_elo": 0.75, "rejected_elo": -0.25, "margin": 1.0, "n_verdicts": 2, "weight": 1.0,
    }  # fmt: skip
    return JudgementPair(pair_id, **values | changes)


def unary_label(label_id: str = "u1") -> UnaryLabel:
    return UnaryLabel(label_id, "p1", 1, "c1", True, 4.0, "threshold", 1.0)


def ranking(ranking_id: str = "r1") -> Ranking:
    return Ranking(ranking_id, "p1", 1, ("c1", "c2"), (4.0, 1 / 3), "rubric", "ranking", 1.0)


def replay(replay_id: str = "rp1", **changes: Any) -> Replay:
    values: dict[str, Any] = {"round": 2, "from_round": 1, "kind": "pair", "example_id": "pair1"}
    return Replay(replay_id, **values | changes)


def review(review_id: str = "v1", **changes: Any) -> Review:
    values: dict[str, Any] = {
        "pair_id": "pair1", "round": 1, "decision": "flip", "note": "why", "reviewer": "me",
        "reviewed_at": "2026-05-01T12:00:00.000000+00:00",
    }  # fmt: skip
    return Review(review_id, **values | changes)


def override(override_id: str = "o1", **changes: Any) -> Override:
    values: dict[str, Any] = {"round": 2, "from_round": 1, "pair_id": "pair1", "decision": "flip", "review_id": "v1"}
    return Override(override_id, **values | changes)
