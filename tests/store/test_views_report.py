"""Views that a report is made of; every number here can be worked out by hand from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfalign.store.store import Store
from tests.store.rows import candidate, evaluation, judgement, pair, prompt, ranking, selection, unary_label


def rows(store: Store, sql: str) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    return found


def finish(store: Store, stage: str, round: int = 1) -> None:
    store.start_stage(round, stage, "f")
    store.finish_stage(round, stage, "f", rows_in=1, rows_out=1)


def funnel(store: Store) -> list[tuple[int, str, int, int, float]]:
    found = rows(store, "select * from yield_funnel order by round, step")
    return [(row["round"], row["name"], row["prompts"], row["row_count"], row["share"]) for row in found]


def test_the_funnel_counts_prompts_at_every_step(store: Store) -> None:
    store.insert([prompt(name) for name in ("p1", "p2", "p3", "p4")])
    store.insert([prompt("h", round=0, split="held_out"), candidate("h0", "h", split="held_out")])
    store.insert([candidate(f"{p}{i}", p, sample_idx=i) for p in ("p1", "p2", "p3") for i in range(2)])
    # An answer that came with the prompt was not sampled for it.
    store.insert([candidate("p4d", "p4", sample_idx=-1, origin="demonstration")])
    assert funnel(store) == [(1, "prompts", 4, 4, 1.0), (1, "answered", 3, 6, 0.75)]
    store.insert([judgement("1", "p10"), judgement("2", "p10"), judgement("3", "p20", outcome="refused", score=None)])
    finish(store, "pair")
    assert funnel(store)[2:] == [(1, "judged", 1, 2, 0.25), (1, "paired", 0, 0, 0.0)]
    store.insert([pair("x", "p10", "p11"), pair("y", "p10", "p11", builder="all_pairs")])
    assert funnel(store)[3] == (1, "paired", 1, 2, 0.25)


def test_a_judge_of_whom_nothing_can_be_read_has_its_step(store: Store) -> None:
    store.insert([prompt(), candidate(), judgement("1", outcome="parse_error", score=None)])
    assert funnel(store)[-1] == (1, "judged", 0, 0, 0.0)


def test_labels_and_rankings_are_examples_too_and_resampling_is_a_step(store: Store) -> None:
    store.insert([prompt(), prompt("p2"), candidate(), selection(), unary_label(), ranking()])
    finish(store, "pair")
    assert [step[1:4] for step in funnel(store)] == [
        ("prompts", 2, 2), ("answered", 1, 1), ("kept", 1, 1), ("paired", 1, 2),
    ]  # fmt: skip


def test_label_text(store: Store) -> None:
    store.insert([prompt(), candidate(), unary_label()])
    (row,) = rows(store, "select round, prompt, answer, label, score, n_tokens, label_id from label_text")
    assert row == {
        "round": 1, "prompt": "text of p1", "answer": "text of c1", "label": True, "score": 4.0, "n_tokens": 3,
        "label_id": "u1",
    }  # fmt: skip


def test_ranking_text_has_a_row_an_answer_best_first(store: Store) -> None:
    store.insert([prompt(), candidate(), candidate("c2", sample_idx=1), ranking()])
    found = rows(store, "select place, places, prompt, answer, score from ranking_text order by place")
    assert found == [
        {"place": 1, "places": 2, "prompt": "text of p1", "answer": "text of c1", "score": 4.0},
        {"place": 2, "places": 2, "prompt": "text of p1", "answer": "text of c2", "score": 1 / 3},
    ]


def test_judge_figures_tells_the_judge_from_its_members(store: Store) -> None:
    store.insert(
        [
            evaluation("judge_pairwise_accuracy", 0.7, split="gold_test", detail='{"judge": "weighted"}'),
            evaluation("judge_pairwise_accuracy", 0.6, split="gold_test/logits-abcd1234", detail='{"judge": "logits"}'),
            evaluation("judge_drift", 0.1),
            evaluation("pass_rate_strict", 0.5, split="gold_test"),
        ]
    )
    found = rows(store, "select branch, round, judge, whole, metric, value from judge_figures order by judge")
    shared = {"branch": None, "round": 1, "metric": "judge_pairwise_accuracy"}
    assert found == [
        {**shared, "judge": "logits", "whole": False, "value": 0.6},
        {**shared, "judge": "weighted", "whole": True, "value": 0.7},
    ]


def test_judge_by_kind_has_a_row_a_kind(store: Store) -> None:
    kinds = (
        '{"a.b": {"value": 0.5, "low": 0.25, "high": null, "n": 4}, "c d": {"value": 1, "low": 0.5, "high": 1, "n": 3}}'
    )
    store.insert([
        evaluation("judge_pairwise_accuracy", 0.7, split="gold_test", detail=f'{{"judge": "weighted", "by_kind": {kinds}}}'),
        evaluation("judge_pairwise_accuracy", 0.6, split="gold_test/logits-abcd1234", detail='{"judge": "logits"}'),
        evaluation("judge_tie_share", 0.1, split="gold_test", detail=f'{{"by_kind": {kinds}}}'),
    ])  # fmt: skip
    found = rows(store, "select round, judge, whole, kind, value, low, high, n, split from judge_by_kind order by kind")
    same = {"round": 1, "judge": "weighted", "whole": True, "split": "gold_test"}
    assert found == [
        {**same, "kind": "a.b", "value": 0.5, "low": 0.25, "high": None, "n": 4},
        {**same, "kind": "c d", "value": 1.0, "low": 0.5, "high": 1.0, "n": 3},
    ]
