"""Every number here can be worked out by hand from the rows of ``told``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from selfalign.store.store import Store
from selfalign.types import Event, Ranking, UnaryLabel
from tests.store.rows import candidate, checkpoint, evaluation, event, judgement, pair, prompt, replay


@pytest.fixture
def told(store: Store) -> Store:
    """Two rounds: 3 prompts, 2 candidates each, 2 votes each, 1 pair in round 1; nothing yet in round 2."""
    store.put_round(0, weights_hash="w0", status="done")
    store.put_round(1, parent_hash="w0", weights_hash="w1", status="done")
    store.put_round(2, parent_hash="w1", status="running")
    store.insert([prompt(name) for name in ("p1", "p2", "p3")])
    store.insert([prompt("h1", round=0, split="held_out")])
    lengths = {"p1a": 10, "p1b": 4, "p2a": 6, "p2b": 6, "p3a": 2, "p3b": 2}
    store.insert([candidate(name, name[:2], n_tokens=n, sample_idx="ab".index(name[2])) for name, n in lengths.items()])
    store.insert([candidate("h1-0", "h1", round=0, split="held_out"), candidate("h1-1", "h1", split="held_out")])
    scores = {"p1a": (5, 3), "p1b": (1, 1), "p2a": (3, 3), "p2b": (3, None), "p3a": (None, None), "p3b": (2, 4)}
    votes = [
        judgement(f"{name}-{i}", name, sample_idx=i, score=score, outcome="parse_error" if score is None else "ok")
        for name, pair_of_scores in scores.items()
        for i, score in enumerate(pair_of_scores)
    ]
    store.insert(votes)
    store.insert([judgement("tie", "p2a", judge="other", score=None, outcome="tie")])
    store.insert([judgement("held", "h1-1", judge="verifier", score=1.0)])
    store.insert([pair("pair1", "p1a", "p1b", "p1", chosen_score=4.0, rejected_score=1.0, margin=3.0)])
    store.insert([event("e2", subject_id="p2", message="all tied"), event("e1", subject_id="p1", message="stale")])
    store.insert([ruling("judge_accuracy", "fail", "stop", 0), ruling("pass_rate", "pass", None, 0)])
    store.insert(
        [ruling("length", "fail", "continue"), ruling("pass_rate", "pass"), ruling("figure", "not_applicable")]
    )
    store.insert([checkpoint()])
    store.insert(
        [
            evaluation("pass_rate_strict", 0.4, low=0.3, high=0.5, round=0),
            evaluation("pass_rate_strict", 0.5, low=0.4, high=0.6),
            evaluation("pass_rate_strict", 0.9, split="train"),
            evaluation("pass_rate_strict_instruction", 0.55),
            evaluation("pass_rate_delta_vs_m0", 0.1, low=-0.02, high=0.2),
            evaluation("pass_rate_delta_vs_previous", 0.11, low=-0.01, high=0.21),
            evaluation("mean_length_tokens", 42.0),
            evaluation("mean_length_tokens", 28.0, round=0),
            evaluation("judge_pairwise_accuracy", 0.7, low=0.6, high=0.8, split="gold_test"),
            evaluation("judge_pairwise_accuracy", 0.9, low=0.85, high=0.95, split="gold_calibrate"),
            evaluation("judge_pairwise_accuracy", 0.95, split="gold_test/verifier-0123abcd"),
            evaluation("judge_pairwise_accuracy", 0.4, split="gold_calibrate", round=0),
            evaluation("win_rate_vs_previous", 0.55, low=0.45, high=0.65),
            evaluation("win_rate_vs_m0", 0.6, low=0.5, high=0.7),
            evaluation("judge_drift", 0.02, low=-0.1, high=0.14),
            evaluation("plain_text_nll", 3.0, split="plain_text", low=2.9, high=3.1),
            evaluation("plain_text_nll_delta_vs_m0", 0.05, split="plain_text", low=0.01, high=0.09),
            evaluation("distinct_2", 0.8),
            evaluation("log_ratio_vs_m0", 1.5),
            evaluation("chosen_displacement", -0.5, split="train"),
            evaluation("rejected_displacement", -2.5, split="train"),
            evaluation("train_loss", 0.6, split="train"),
        ]
    )
    with store.write() as transaction:
        transaction.execute(
            "insert into stages (round, stage, fingerprint, status, attempt, started_at, seconds) values "
            "(1, 'generate', 'f', 'done', 1, now()::timestamp, 2.5), (1, 'judge', 'f', 'done', 1, now()::timestamp, 1.5)"
        )
    return store


def ruling(rule: str, verdict: str, done: str | None = None, round: int = 1) -> Event:
    """A gate's decision as the stage writes it."""
    detail = json.dumps({"rule": rule, "verdict": verdict, "done": done})
    return event(f"g-{round}-{rule}", round=round, stage="gate", kind="gate", subject_id=rule, detail=detail)


def rows(store: Store, sql: str) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    return found


def test_round_summary(told: Store) -> None:
    zero, one, two = rows(told, "select * from round_summary order by round")
    assert one == {
        "round": 1, "model": "M1", "weights_hash": "w1", "prompts": 3, "candidates": 6, "judgements": 13,
        "valid_judgements": pytest.approx(9 / 13), "pairs": 1, "pair_yield": pytest.approx(1 / 3), "mean_margin": 3.0,
        "mean_chosen_tokens": 10.0, "mean_rejected_tokens": 4.0,
        "labels": 0, "desirable_labels": 0, "rankings": 0, "mean_ranking_size": None, "replayed": 0,
        "pass_rate_strict": 0.5, "pass_rate_strict_low": 0.4, "pass_rate_strict_high": 0.6,
        "instruction_pass_rate_strict": 0.55,
        "delta_vs_m0": 0.1, "delta_vs_m0_low": -0.02, "delta_vs_m0_high": 0.2,
        "delta_vs_previous": 0.11, "delta_vs_previous_low": -0.01, "delta_vs_previous_high": 0.21,
        "judge_accuracy": 0.7, "judge_accuracy_low": 0.6, "judge_accuracy_high": 0.8,
        "win_rate_vs_previous": 0.55, "win_rate_vs_previous_low": 0.45, "win_rate_vs_previous_high": 0.65,
        "win_rate_vs_m0": 0.6, "win_rate_vs_m0_low": 0.5, "win_rate_vs_m0_high": 0.7,
        "mean_length": 42.0, "length_ratio_to_m0": 1.5, "distinct_2": 0.8, "log_ratio_to_m0": 1.5,
        "judge_drift": 0.02, "judge_drift_low": -0.1, "judge_drift_high": 0.14,
        "plain_text_nll": 3.0, "plain_text_perplexity": pytest.approx(math.exp(3)), "plain_text_nll_delta_vs_m0": 0.05,
        "plain_text_nll_delta_vs_m0_low": 0.01, "plain_text_nll_delta_vs_m0_high": 0.09,
        "gate": "continue", "gate_failed": "length",
        "chosen_displacement": -0.5, "rejected_displacement": -2.5, "train_loss_final": 0.6, "seconds": 4.0,
    }  # fmt: skip
    assert (zero["model"], zero["weights_hash"], zero["pass_rate_strict"], zero["prompts"]) == ("M0", "w0", 0.4, 0)
    assert (zero["judge_accuracy"], zero["length_ratio_to_m0"], zero["gate"]) == (0.4, 1.0, "stop")
    assert two["gate"] is two["gate_failed"] is two["judge_accuracy"] is None
    assert (two["model"], two["weights_hash"], two["pairs"], two["pair_yield"]) == ("M2", None, 0, None)
    assert two["pass_rate_strict"] is two["seconds"] is two["train_loss_final"] is None


def test_lengths_of_pairs_are_their_own_or_their_candidates(told: Store) -> None:
    # The pair before has none: its candidates have 10 and 4.
    told.insert([pair("longer", "p2a", "p2b", "p2", chosen_tokens=30, rejected_tokens=6)])
    (one,) = rows(told, "select * from round_summary where round = 1")
    assert (one["pairs"], one["mean_chosen_tokens"], one["mean_rejected_tokens"]) == (2, 20.0, 5.0)


@pytest.mark.parametrize(
    ("said", "gate", "failed"),
    [
        ([("a", "pass", None), ("b", "not_applicable", None)], "pass", None),
        ([("a", "not_applicable", None)], "not_applicable", None),
        ([("b", "fail", "continue"), ("a", "fail", "ask"), ("c", "pass", None)], "ask", "a, b"),
        ([("a", "fail", "ask"), ("b", "fail", "stop")], "stop", "a, b"),
        ([("a", "fail", "roll_back"), ("b", "fail", "stop")], "roll_back", "a, b"),
    ],
)
def test_the_gate_of_a_round_is_the_strongest_thing_that_was_done(
    store: Store, said: list[tuple[str, str, str | None]], gate: str, failed: str | None
) -> None:
    store.put_round(1, status="running")
    store.insert([ruling(*one) for one in said])
    assert rows(store, "select gate, gate_failed from round_summary") == [{"gate": gate, "gate_failed": failed}]


def test_pair_text(told: Store) -> None:
    assert rows(told, "select * from pair_text") == [
        {
            "round": 1, "prompt": "text of p1", "chosen": "text of p1a", "rejected": "text of p1b", "chosen_score": 4.0,
            "rejected_score": 1.0, "margin": 3.0, "judge": "rubric", "builder": "max_min", "n_votes": 2,
            "chosen_tokens": 10, "rejected_tokens": 4, "prompt_id": "p1", "pair_id": "pair1", "chosen_id": "p1a",
            "rejected_id": "p1b",
        }
    ]  # fmt: skip


def test_judge_health(told: Store) -> None:
    other, rubric = rows(told, "select * from judge_health order by judge")
    # Valid scores are 5 3 1 1 3 3 3 2 4: mean 25/9, four of nine at the mode 3.
    assert rubric == {
        "round": 1, "judge": "rubric", "votes": 12, "ok": 9, "parse_error": 3, "out_of_range": 0, "truncated": 0,
        "refused": 0, "tie": 0, "disagree": 0, "ok_rate": 0.75, "mean_score": pytest.approx(25 / 9),
        "sd_score": pytest.approx(1.3017083), "score_min": 1.0, "score_max": 5.0, "share_at_mode": pytest.approx(4 / 9),
    }  # fmt: skip
    assert (other["judge"], other["votes"], other["tie"], other["ok_rate"]) == ("other", 1, 1, 0.0)
    assert other["mean_score"] is other["share_at_mode"] is None


def test_lineage(told: Store) -> None:
    chosen, rejected = rows(told, "select * from lineage order by side")
    assert chosen == {
        "pair_id": "pair1", "round": 1, "side": "chosen", "prompt_id": "p1", "prompt": "text of p1",
        "candidate_id": "p1a", "weights_hash": "w0", "judgement_ids": ["p1a-0", "p1a-1"], "score": 4.0,
        "checkpoint_id": "k1", "trained_weights_hash": "w1", "checkpoint_path": "checkpoints/round-1",
        "pass_rate_strict": 0.5, "kind": "pair", "example_id": "pair1", "trained_round": 1,
        "review": None,
    }  # fmt: skip
    assert (rejected["side"], rejected["candidate_id"], rejected["score"]) == ("rejected", "p1b", 1.0)
    assert rejected["judgement_ids"] == ["p1b-0", "p1b-1"]


def test_labels_and_rankings_count_where_pairs_do(told: Store) -> None:
    told.insert(
        [
            UnaryLabel("l1", "p2", 1, "p2a", True, 3.0, "threshold", 1.0),
            UnaryLabel("l2", "p2", 1, "p2b", False, 3.0, "threshold", 1.0),
            Ranking("r1", "p3", 1, ("p3b", "p3a"), (3.0, 1.0), "rubric", "ranking", 1.0),
        ]
    )
    lineage = rows(told, "select * from lineage where kind <> 'pair' order by example_id, side")
    assert [(row["example_id"], row["side"], row["candidate_id"], row["score"]) for row in lineage] == [
        ("l1", "desirable", "p2a", 3.0), ("l2", "undesirable", "p2b", 3.0),
        ("r1", "rank 1", "p3b", 3.0), ("r1", "rank 2", "p3a", 1.0),
    ]  # fmt: skip
    assert {(row["pair_id"], row["checkpoint_id"]) for row in lineage} == {(None, "k1")}
    assert lineage[0]["judgement_ids"] == ["tie", "p2a-0", "p2a-1"]
    (summary,) = rows(told, "select * from round_summary where round = 1")
    assert (summary["labels"], summary["desirable_labels"]) == (2, 1)
    assert (summary["rankings"], summary["mean_ranking_size"]) == (1, 2.0)
    assert rows(told, "select * from yields") == [{"round": 1, "reason": "paired", "prompts": 3}]
    told.start_stage(1, "train", fingerprint="f")
    (cost,) = rows(told, "select tokens_read from cost_by_stage where stage = 'train'")
    assert cost["tokens_read"] == (10 + 4) + (6 + 6) + (2 + 2)
    drift = {row["kind"]: row["mean_tokens"] for row in rows(told, "select * from length_drift where round = 1")}
    assert (drift["desirable"], drift["undesirable"]) == (6.0, 6.0)
    for view, n in (("all_unary_labels", 2), ("all_rankings", 1)):
        assert len(rows(told, f"select * from {view} where branch is null")) == n


@pytest.fixture
def replayed(told: Store) -> Store:
    """Round 2 made a pair of its own, and trained on that of round 1 as well."""
    told.insert([prompt("p4", round=2), candidate("p4a", "p4", round=2, n_tokens=5), candidate("p4b", "p4", round=2)])
    told.insert([pair("pair2", "p4a", "p4b", "p4", round=2), replay()])
    told.insert([checkpoint("k2", round=2, parent_id="w0", weights_hash="w2", reference_hash="average", n_examples=2,
                            config='{"beta": 0.2, "learning_rate": 1e-5}')])  # fmt: skip
    policy = {"start": "base", "data": {"last": 2}, "reference": {"ema": 0.5}}
    told.put_round(2, weights_hash="w2", start_hash="w0", reference_hash="average", trainer="dpo", policy=policy)
    return told


def test_a_pair_that_trained_two_rounds_leads_to_both_checkpoints(replayed: Store) -> None:
    lineage = rows(replayed, "select * from lineage where side = 'chosen' order by example_id, trained_round")
    assert [(r["example_id"], r["round"], r["trained_round"], r["checkpoint_id"]) for r in lineage] == [
        ("pair1", 1, 1, "k1"), ("pair1", 1, 2, "k2"), ("pair2", 2, 2, "k2"),
    ]  # fmt: skip
    assert lineage[1]["judgement_ids"] == ["p1a-0", "p1a-1"], "those of the round that made it"
    assert lineage[1]["prompt"] == "text of p1"
    given = rows(replayed, "select * from trained_on order by all")
    assert [tuple(row.values()) for row in given] == [
        (1, "pair", "pair1", 1, None), (2, "pair", "pair1", 1, None), (2, "pair", "pair2", 2, None),
    ]  # fmt: skip
    summary = rows(replayed, "select pairs, replayed from round_summary order by round")
    assert [(row["pairs"], row["replayed"]) for row in summary] == [(0, 0), (1, 0), (1, 1)]
    replayed.start_stage(2, "train", fingerprint="f")
    (cost,) = rows(replayed, "select tokens_read from cost_by_stage where stage = 'train' and round = 2")
    assert cost["tokens_read"] == (5 + 3) + (10 + 4)


def test_round_policy(replayed: Store) -> None:
    one, two = rows(replayed, "select * exclude (settings, method) from round_policy order by round")
    assert two == {
        "round": 2, "model": "M2", "starts_from": "M0", "reference": "average of M0 to M1, decay 0.5",
        "data": '{"last":2}', "replayed": 1, "n_examples": 2, "trainer": "dpo", "learning_rate": 1e-5, "beta": 0.2,
        "start_hash": "w0", "reference_hash": "average",
    }  # fmt: skip
    # A round from before policies were recorded, whose loss needed no reference.
    assert (one["starts_from"], one["start_hash"], one["reference"], one["data"]) == ("M0", "w0", None, "this")
    replayed.put_round(1, reference_hash="w0")
    assert rows(replayed, "select reference from round_policy where round = 1") == [{"reference": "M0"}]


def test_lineage_before_training(store: Store) -> None:
    store.insert([prompt(), candidate("a"), candidate("b"), pair("x", "a", "b")])
    assert [row["checkpoint_id"] for row in rows(store, "select * from lineage")] == [None, None]


def test_yields_add_up_to_the_prompts(told: Store) -> None:
    assert rows(told, "select * from yields order by reason") == [
        {"round": 1, "reason": "all tied", "prompts": 1},
        {"round": 1, "reason": "not paired yet", "prompts": 1},
        {"round": 1, "reason": "paired", "prompts": 1},
    ]


def test_views_of_an_empty_store_are_empty(store: Store) -> None:
    for view in (
        "pair_text",
        "round_summary",
        "judge_health",
        "lineage",
        "yields",
        "round_policy",
        "trained_on",
        "review_text",
    ):
        assert rows(store, f"select * from {view}") == []
