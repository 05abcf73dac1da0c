"""Views that answer a person's question; every number here can be worked out by hand from the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from selfalign.store.catalog import contents, descriptions
from selfalign.store.schema import VIEWS
from selfalign.store.store import Store
from selfalign.types import Judgement
from tests.store.rows import candidate, checkpoint, event, judgement, pair, prompt

COMMA, WORDS, TITLE = "punctuation:no_comma", "length_constraints:number_words", "detectable_format:title"


def rows(store: Store, sql: str) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    return found


def verdict(candidate_id: str, followed: Mapping[str, bool], name: str = "", **changes: Any) -> Judgement:
    """As the verifier writes it."""
    flags = list(followed.values())
    detail = {"ids": list(followed), "loose": flags, "strict": flags}
    return judgement(
        f"v-{candidate_id}{name}", candidate_id, judge="verifier", judge_hash="v", weights_hash=None, raw="",
        score=sum(flags) / len(flags), detail=json.dumps(detail), **changes,
    )  # fmt: skip


@pytest.fixture
def measured(store: Store) -> Store:
    """Held-out prompts h1 (two instructions), h2 (one) and h3 (one), answered by M0, M1 and M2."""
    store.insert(
        [
            prompt("h1", round=0, split="held_out", instruction_id_list=(COMMA, WORDS), category="letter"),
            prompt("h2", round=0, split="held_out", instruction_id_list=(COMMA,)),
            prompt("h3", round=0, split="held_out", instruction_id_list=(TITLE,), language="de"),
        ]
    )
    #           M0             M1             M2
    followed = {
        "h1": [(True, True), (True, False), (True, False)],  # lost in round 1, stays lost
        "h2": [(False,), (True,), (True,)],  # gained in round 1
        "h3": [(True,), (True,), (False,)],  # lost in round 2
    }
    ids = {"h1": (COMMA, WORDS), "h2": (COMMA,), "h3": (TITLE,)}
    for name, by_round in followed.items():
        for t, flags in enumerate(by_round):
            store.insert([candidate(f"{name}-{t}", name, round=t, split="held_out", text=f"{name} by M{t}")])
            store.insert([verdict(f"{name}-{t}", dict(zip(ids[name], flags, strict=True)), round=t)])
    return store


def test_checked_answers_pass_only_with_every_instruction(measured: Store) -> None:
    found = rows(measured, "select * from checked_answers where round = 1 order by prompt_id")
    assert [(row["prompt_id"], row["passed"]) for row in found] == [("h1", False), ("h2", True), ("h3", True)]
    assert found[0]["instruction_ids"] == [COMMA, WORDS]
    assert found[0]["followed"] == [True, False]
    assert (found[0]["category"], found[2]["language"], found[0]["answer"]) == ("letter", "de", "h1 by M1")


def test_the_last_verdict_on_an_answer_counts(measured: Store) -> None:
    measured.insert([verdict("h2-0", {COMMA: True}, name="-again", round=0)])
    found = rows(measured, "select passed from checked_answers where candidate_id = 'h2-0'")
    assert found == [{"passed": True}]


def test_held_out_changes_has_both_answers_of_what_flipped(measured: Store) -> None:
    found = rows(measured, "select * from held_out_changes order by round, prompt_id")
    assert [(row["round"], row["prompt_id"], row["change"]) for row in found] == [
        (1, "h1", "lost"), (1, "h2", "gained"), (2, "h3", "lost"),
    ]  # fmt: skip
    assert (found[0]["answer_before"], found[0]["answer_now"]) == ("h1 by M0", "h1 by M1")
    assert (found[0]["failed_before"], found[0]["failed_now"]) == ([], [WORDS])
    assert (found[1]["failed_before"], found[1]["failed_now"]) == ([COMMA], [])


def test_held_out_flips_counts_them_a_round(measured: Store) -> None:
    found = rows(measured, "select * from held_out_flips order by round")
    assert found == [
        {"round": 1, "answers": 3, "gained": 1, "lost": 1},
        {"round": 2, "answers": 3, "gained": 0, "lost": 1},
    ]


def test_samples_are_compared_with_the_one_of_their_number(measured: Store) -> None:
    for t, flags in ((0, False), (1, True)):
        measured.insert([candidate(f"h2-{t}-b", "h2", round=t, split="held_out", sample_idx=1)])
        measured.insert([verdict(f"h2-{t}-b", {COMMA: flags}, round=t)])
    found = rows(measured, "select sample_idx from held_out_changes where prompt_id = 'h2' order by sample_idx")
    assert [row["sample_idx"] for row in found] == [0, 1]


def test_regression_pairs_share_an_instruction_that_was_lost(measured: Store) -> None:
    measured.insert(
        [
            prompt("p1", instruction_id_list=(WORDS, TITLE)),  # shares WORDS, lost in round 1 by h1
            prompt("p2", instruction_id_list=(COMMA,)),  # h1 still follows it
            prompt("p3", round=2, instruction_id_list=(TITLE,)),  # lost in round 2 by h3
            prompt("p4", round=2, instruction_id_list=()),
        ]
    )
    for name, t in (("p1", 1), ("p2", 1), ("p3", 2), ("p4", 2)):
        measured.insert([candidate(f"{name}{side}", name, round=t, weights_hash=f"w{t - 1}") for side in "ab"])
        measured.insert([pair(f"pair-{name}", f"{name}a", f"{name}b", name, round=t)])
    measured.insert([verdict("p1a", {WORDS: False, TITLE: True}), verdict("p1b", {WORDS: False, TITLE: False})])
    measured.insert([checkpoint(), checkpoint("k2", round=2, weights_hash="w2")])
    found = rows(measured, "select * from regression_pairs order by round, pair_id")
    assert [(row["round"], row["pair_id"]) for row in found] == [(1, "pair-p1"), (2, "pair-p3")]
    first, second = found
    assert (first["shared_ids"], first["regressed"], first["regressed_prompt_ids"]) == ([WORDS], 1, ["h1"])
    assert first["chosen_breaks"] == [WORDS]
    assert second["chosen_breaks"] is None, "the verifier did not judge it"
    assert (first["prompt"], first["chosen"], first["margin"]) == ("text of p1", "text of p1a", 3.0)
    assert (first["made_by"], first["checkpoint_id"], first["trained_weights_hash"]) == ("w0", "k1", "w1")
    assert (second["made_by"], second["checkpoint_id"], second["trained_weights_hash"]) == ("w1", "k2", "w2")


def test_unpaired_shows_what_the_deciding_judge_made_of_every_candidate(store: Store) -> None:
    store.insert([prompt("p1"), prompt("p2"), prompt("p3")])
    store.insert([candidate("p1b", "p1", sample_idx=1), candidate("p1a", "p1"), candidate("p2a", "p2")])
    store.insert(
        [
            judgement("1", "p1a", judge="weighted", score=0.5),
            judgement("2", "p1b", judge="weighted", score=None, outcome="parse_error"),
            judgement("3", "p1b", judge="member", score=4.0),
        ]
    )
    store.insert([pair("x", "c", "d", "p2", judge="weighted")])
    store.insert([event("e1", message="too_few_valid_votes", detail='{"valid": 1}'), event("e3", subject_id="p3")])
    found = rows(store, "select * from unpaired order by prompt_id")
    assert found == [
        {
            "round": 1, "prompt": "text of p1", "reason": "too_few_valid_votes", "judge": "weighted",
            "scores": [0.5, None], "outcomes": [["ok"], ["parse_error"]], "answers": ["text of p1a", "text of p1b"],
            "detail": '{"valid": 1}', "prompt_id": "p1", "candidate_ids": ["p1a", "p1b"],
        },
        {
            "round": 1, "prompt": "text of p3", "reason": "all tied", "judge": "weighted", "scores": [], "outcomes": [],
            "answers": [], "detail": "{}", "prompt_id": "p3", "candidate_ids": [],
        },
    ]  # fmt: skip


def test_the_deciding_judge_of_a_round_without_pairs_is_the_configs(store: Store) -> None:
    store.put_run("r", seed=1, config='{"judge": {"id": "rubric"}}', config_hash="h", environment="{}", version="0")
    store.insert([prompt(), candidate(), judgement("1", score=2.0), event("e")])
    assert rows(store, "select judge, scores from unpaired") == [{"judge": "rubric", "scores": [2.0]}]


def test_cost_by_stage(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute(
            "insert into stages (round, stage, fingerprint, status, attempt, started_at, seconds, rows_out) values "
            "(1, 'generate', 'old', 'failed', 2, '2026-01-01', 2, NULL), "
            "(1, 'generate', 'f', 'done', 1, '2026-01-02', 6, 2), "
            "(1, 'judge', 'f', 'done', 1, '2026-01-03', 4, 3), (1, 'train', 'f', 'done', 1, '2026-01-04', 8, 1), "
            "(1, 'answer', 'f', 'running', 1, '2026-01-05', NULL, NULL)"
        )
    store.insert([candidate("a", n_tokens=30), candidate("b", n_tokens=50), candidate("h", split="held_out")])
    store.insert([judgement("1", "a", detail='{"n_tokens": 7}'), judgement("2", "b", detail='{"n_tokens": 5}')])
    store.insert([verdict("a", {COMMA: True}), pair("x", "a", "b")])
    found = {row["stage"]: row for row in rows(store, "select * from cost_by_stage")}
    generate = found["generate"]
    assert (generate["status"], generate["attempts"], generate["seconds"], generate["rows_out"]) == ("done", 3, 8.0, 2)
    assert (generate["share"], generate["tokens_written"], generate["tokens_read"]) == (0.4, 80, None)
    assert generate["tokens_written_per_second"] == 10.0
    assert (found["judge"]["tokens_written"], found["judge"]["tokens_read"]) == (12, 80)
    assert (found["train"]["tokens_written"], found["train"]["tokens_read"]) == (None, 80)
    assert (found["answer"]["tokens_written"], found["answer"]["share"]) == (3, None)


def test_length_drift(store: Store) -> None:
    store.insert(
        [candidate("a", n_tokens=10), candidate("b", n_tokens=20), candidate("c", n_tokens=60, finish_reason="length")]
    )
    store.insert([candidate("h", split="held_out", n_tokens=8), pair("x", "c", "a"), pair("y", "b", "a")])
    found = {row["kind"]: row for row in rows(store, "select * from length_drift")}
    assert {kind: (row["n"], row["mean_tokens"], row["median_tokens"]) for kind, row in found.items()} == {
        "candidates": (3, 30.0, 20.0), "chosen": (2, 40.0, 40.0), "rejected": (2, 10.0, 10.0), "held_out": (1, 8.0, 8.0),
    }  # fmt: skip
    assert found["candidates"]["cut_share"] == pytest.approx(1 / 3)
    assert (found["chosen"]["cut_share"], found["rejected"]["cut_share"]) == (0.5, 0.0)


def test_judge_agreement(store: Store) -> None:
    # The verifier orders a > b, a > c (b = c), and d > e of the other prompt.
    for name, share in {"a": True, "b": False, "c": False}.items():
        store.insert([candidate(name), verdict(name, {COMMA: share})])
    for name, share in {"d": True, "e": False}.items():
        store.insert([candidate(name, "p2"), verdict(name, {COMMA: share})])
    scores = {"a": (5, 3), "b": (1, None), "c": (4, 4), "d": (2, 2), "e": (3, 3)}  # a > b, a = c, d < e
    store.insert(
        [
            judgement(f"{name}{i}", name, sample_idx=i, score=score, outcome="ok" if score else "parse_error")
            for name, votes in scores.items()
            for i, score in enumerate(votes)
        ]
    )
    store.insert([judgement("w", "a", judge="weighted", judge_hash="all", detail='{"members": []}')])
    assert rows(store, "select * from judge_agreement") == [
        {
            "round": 1, "judge": "rubric", "n": 3, "agree": 1, "ties": 1, "disagree": 1, "agreement": 0.5,
            "judge_hash": "h",
        }
    ]  # fmt: skip


def test_candidate_diversity(store: Store) -> None:
    store.insert([candidate(f"a{i}", "p1", text=text) for i, text in enumerate(("x", "x", "y"))])
    store.insert([candidate(f"b{i}", "p2", text="x") for i in range(2)])
    store.insert([candidate(f"c{i}", "p1", round=2, text=text) for i, text in enumerate(("y", "y", "z"))])
    store.insert([candidate("h", "p1", round=2, split="held_out", text="x")])
    assert rows(store, "select * from candidate_diversity order by round") == [
        {
            "round": 1, "prompts": 2, "candidates": 5, "distinct_per_prompt": 1.5, "duplicates": 2,
            "duplicate_share": 0.4, "all_same": 1, "seen_before": 0,
        },
        {
            "round": 2, "prompts": 1, "candidates": 3, "distinct_per_prompt": 2.0, "duplicates": 1,
            "duplicate_share": pytest.approx(1 / 3), "all_same": 0, "seen_before": 2,
        },
    ]  # fmt: skip


def test_score_histogram_has_the_same_bins_in_every_round(store: Store) -> None:
    store.insert([candidate("a"), candidate("b", round=2), candidate("h", split="held_out")])
    scores = {("a", 1): (0, 10, 10, 9.5), ("b", 2): (5,), ("h", 1): (100,)}
    for (name, t), votes in scores.items():
        store.insert([judgement(f"{name}{i}", name, round=t, score=float(v)) for i, v in enumerate(votes)])
    store.insert([judgement("one", "a", judge="flat", judge_hash="flat", score=3.0)])
    found = rows(store, "select * from score_histogram where judge = 'rubric' order by round, bin_low")
    assert [(row["round"], row["bin_low"], row["bin_high"], row["n"], row["share"]) for row in found] == [
        (1, 0.0, 1.0, 1, 0.25), (1, 9.0, 10.0, 3, 0.75), (2, 5.0, 6.0, 1, 1.0),
    ]  # fmt: skip
    assert [len(row["bar"]) for row in found] == [10, 30, 40]
    assert rows(store, "select n, bin_low, bin_high from score_histogram where judge = 'flat'") == [
        {"n": 1, "bin_low": 3.0, "bin_high": 3.0}
    ]


@pytest.mark.parametrize("view", sorted(path.stem for path in VIEWS.glob("*.sql")))
def test_every_view_is_empty_on_an_empty_store_and_says_what_it_is(store: Store, view: str) -> None:
    assert rows(store, f"select * from {view}") == []
    assert descriptions()[view].endswith(".")


def test_contents_name_every_table_and_view_once(store: Store) -> None:
    store.insert([prompt()])
    listed = contents(store.path).to_pylist()
    names = [row["name"] for row in listed]
    assert len(set(names)) == len(names)
    assert {path.stem for path in VIEWS.glob("*.sql")} <= set(names)
    assert all(row["about"] for row in listed)
    assert next(row for row in listed if row["name"] == "prompts")["rows"] == 1
    assert not any(name.startswith("archived_") for name in names), "empty: nothing was set aside"
