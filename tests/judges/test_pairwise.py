from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import PromptFileError, StageFailed
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.judges.pairwise import PairwiseJudge
from selfalign.judges.scores import aggregate
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Templates, shipped_prompts
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt

TEMPLATES = Templates([shipped_prompts()])


def make_judge(engine: Engine | None, *, round: int = 1, **settings: object) -> PairwiseJudge:
    config = PairwiseJudge.Config.model_validate(settings)
    return PairwiseJudge(config, JudgeContext(engine, 7, round, TEMPLATES))


def responses(shown: str) -> tuple[str, str]:
    found = re.search(r"<response_a>\n(.*)\n</response_a>.*<response_b>\n(.*)\n</response_b>", shown, re.DOTALL)
    assert found
    return found[1], found[2]


def prefers_longer(strength: float = 0.8, bias: float = 0.0) -> ScriptedEngine:
    """P(A) is ``strength`` if A is longer, 1 - ``strength`` if shorter, plus ``bias`` for the first place."""

    def choices(shown: str) -> list[float]:
        first, second = responses(shown)
        p = (strength if len(first) > len(second) else 1 - strength) + bias
        return [math.log(p / 2), math.log((1 - p) / 2)]

    return ScriptedEngine(choices=choices, context_length=100_000)


def test_both_candidates_get_a_row_and_scores_add_up_to_one() -> None:
    rows = make_judge(prefers_longer(0.8, 0.1)).judge(make_items("long one", "short"))
    # shown first 0.9, shown second 1 - (0.2 + 0.1) = 0.7
    assert [(r.candidate_id, r.outcome) for r in rows] == [("p0-c0", "ok"), ("p0-c1", "ok")]
    assert [r.score for r in rows] == [pytest.approx(0.8), pytest.approx(0.2)]
    detail = json.loads(rows[0].detail)
    assert detail["opponent"] == "p0-c1"
    assert (detail["p_first"], detail["p_second"]) == (pytest.approx(0.9), pytest.approx(0.7))
    assert detail["first"]["mass"] == pytest.approx(0.5)
    other = json.loads(rows[1].detail)
    assert (other["p_first"], other["p_second"]) == (pytest.approx(0.3), pytest.approx(0.1))
    assert detail["position_gap"] == pytest.approx(0.2) == other["position_gap"]


def test_a_judge_that_only_likes_a_place_gives_no_scores() -> None:
    engine = ScriptedEngine(choices=lambda shown: [math.log(0.9), math.log(0.1)])
    items = make_items("a", "b", "c")
    rows = make_judge(engine).judge(items)
    assert Counter(r.outcome for r in rows) == {"disagree": 6}
    assert all(r.score is None for r in rows)
    assert [json.loads(r.detail)["position_gap"] for r in rows] == [pytest.approx(0.8)] * 6
    assert {r.outcome for r in make_judge(engine, agree="mean").judge(items)} == {"tie"}


def test_mean_takes_orders_that_differ() -> None:
    row = make_judge(prefers_longer(0.6, 0.3), agree="mean").judge(make_items("longer", "x"))[0]
    assert (row.score, row.outcome) == (pytest.approx(0.6), "ok")
    assert make_judge(prefers_longer(0.6, 0.3)).judge(make_items("longer", "x"))[0].outcome == "disagree"


def test_scores_rank_the_candidates_of_each_prompt() -> None:
    items = [*make_items("aaaa", "aaa", "aa", "a"), *make_items("bb", "bbb", prompt=make_prompt("p1"))]
    judge = make_judge(prefers_longer(0.8))
    votes = aggregate(judge.judge(items), judge.name, judge.min_valid_votes)
    scores = [votes[i.candidate.candidate_id].score for i in items]
    assert scores == [pytest.approx(p) for p in (0.8, 0.6, 0.4, 0.2, 0.2, 0.8)]
    assert votes["p0-c0"].n_votes == 3


def test_rows_do_not_depend_on_order_or_company() -> None:
    items = [*make_items(*("x" * n for n in range(1, 12))), *make_items("b", "bb", prompt=make_prompt("p1"))]
    together = {r.judgement_id: r for r in make_judge(prefers_longer(), opponents=4).judge(items)}
    assert len(together) == 2 * (11 * 2 + 1)
    apart = make_judge(prefers_longer(), opponents=4).judge(items[10::-1])
    assert apart == [together[r.judgement_id] for r in apart]
    assert len(apart) == 44


def test_what_there_is_nothing_to_compare() -> None:
    engine = prefers_longer()
    assert make_judge(engine).judge(make_items("alone")) == []
    rows = make_judge(engine).judge(make_items("same", "same"))
    assert [(r.score, r.outcome) for r in rows] == [(None, "tie")] * 2
    assert json.loads(rows[0].detail)["first"]["reason"] == "identical text"
    assert engine.calls == 0


def test_too_long_or_too_improbable() -> None:
    engine = prefers_longer()
    engine.context_length = 2_000
    rows = make_judge(engine).judge(make_items("x" * 2_000, "y", "zz"))
    assert Counter(r.outcome for r in rows) == {"truncated": 4, "ok": 2}
    rows = make_judge(prefers_longer(), min_mass=0.6).judge(make_items("aa", "b"))
    assert [(r.outcome, r.score) for r in rows] == [("parse_error", None)] * 2


def test_in_words_every_vote_pairs_two_orders() -> None:
    def answer(shown: str, vote: int) -> str:
        first, _ = responses(shown)
        if vote == 2:
            return "I cannot say."
        return "Verdict: A" if vote or first == "good" else "Both fail.\nVerdict: **B**."

    engine = ScriptedEngine(answer=answer)
    rows = make_judge(engine, mode="text", votes=3).judge(make_items("good", "bad"))
    mine = [r for r in rows if r.candidate_id == "p0-c0"]
    assert [(r.sample_idx, r.score, r.outcome) for r in mine] == [
        (3, 1.0, "ok"), (4, None, "disagree"), (5, None, "refused"),
    ]  # fmt: skip
    other = [r for r in rows if r.candidate_id == "p0-c1"]
    assert (mine[0].raw, other[0].raw) == ("Verdict: A", "Both fail.\nVerdict: **B**.")
    assert json.loads(mine[1].detail)["position_gap"] == 1
    assert json.loads(mine[2].detail)["outcomes"] == ["refused", "refused"]
    assert len({r.seed for r in rows}) == len({r.judgement_id for r in rows}) == 6
    assert engine.calls == 1


@pytest.mark.parametrize("settings", [{}, {"rubric": "judges/pairwise_zh"}])
@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        ("Verdict: A", "ok"), ("verdict: [B]", "ok"), ("**Verdict:** B.", "ok"),
        ("Verdict: A/B", "parse_error"), ("Verdict: C", "parse_error"), ("Verdict: Apples", "parse_error"),
        ("A", "parse_error"), ("", "parse_error"),
    ],
)  # fmt: skip
def test_verdicts_in_words(settings: dict[str, Any], raw: str, outcome: str) -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: raw)
    rows = make_judge(engine, mode="text", agree="mean", **settings).judge(make_items("x", "y"))
    # The same letter in both orders is a tie; nothing else is read.
    assert {r.outcome for r in rows} == {"tie" if outcome == "ok" else outcome}


@pytest.mark.parametrize(
    "raw", ["Verdict: A tie", "Verdict: A and B are equal", "Verdict: A is not better", "Verdict: either"]
)
def test_what_only_begins_like_a_verdict(raw: str) -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: raw)
    assert {r.outcome for r in make_judge(engine, mode="text").judge(make_items("x", "y"))} == {"parse_error"}


def test_chinese_verdicts() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: f"理由。\n结论：{'A' if responses(shown)[0] == '好' else 'B'}")
    rows = make_judge(engine, mode="text", rubric="judges/pairwise_zh").judge(make_items("好", "坏"))
    assert [r.score for r in rows] == [1.0, 0.0]


def test_the_plan_keeps_a_prompt_together() -> None:
    items = [i for n in range(5) for i in make_items(*"abc"[: n + 1], prompt=make_prompt(f"p{n}"))]
    shuffled = items[::2] + items[1::2]
    plan = make_judge(prefers_longer()).plan(shuffled)
    assert sorted(i for batch in plan for i in batch) == list(range(len(items)))
    homes = Counter(p for batch in plan for p in {shuffled[i].prompt.prompt_id for i in batch})
    assert set(homes.values()) == {1}
    assert len(plan) == 3


def test_gold_items_are_judged_like_any_others() -> None:
    gold = [GoldItem(f"g{n}", "test", "k", "en", "Write.", "b" * (n + 2), "w", "", (), "[]") for n in range(3)]
    items = [item for g in gold for item in as_judge_items(g, 0)]
    judge = make_judge(prefers_longer())
    votes = aggregate(judge.judge(items), judge.name, 1)
    assert [votes[i.candidate.candidate_id].score for i in items] == [pytest.approx(p) for p in (0.8, 0.2) * 3]


def test_settings() -> None:
    with pytest.raises(ValidationError, match="need mode: text"):
        PairwiseJudge.Config(votes=2)
    with pytest.raises(PromptFileError, match="instruction and first and second"):
        make_judge(None, rubric="judges/additive_short")
    with pytest.raises(StageFailed, match="pairwise"):
        make_judge(None).plan(make_items("a", "b"))
    hashes = {
        make_judge(None, **s).judge_hash
        for s in ({}, {"agree": "mean"}, {"opponents": 2}, {"mode": "text"}, {"min_mass": 0.1})
    }
    assert len(hashes) == 5
    assert make_judge(None, max_tokens=9).judge_hash == make_judge(None).judge_hash


def test_a_rubric_must_say_what_its_verdicts_are_worth(tmp_path: Path) -> None:
    text = (shipped_prompts() / "judges" / "pairwise.j2").read_text(encoding="utf-8")
    for name, old, new, message in (
        ("no", "values: [1, 0]\n", "", "needs choices that are different numbers"),
        ("scale", "values: [1, 0]\n", "values: [0, 5]\n", "from 0 to 1"),
        ("few", "values: [1, 0]\n", "values: [1]\n", "has 1 numbers for 2 choices"),
    ):
        (tmp_path / f"{name}.j2").write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(PromptFileError, match=message):
            make_judge(None, rubric=str(tmp_path / f"{name}.j2"))


@pytest.mark.parametrize("mode", ["logits", "text"])
def test_a_real_model(tiny_model: Path, mode: str) -> None:
    engine = TransformersEngine(TransformersEngine.Config(), tiny_model)
    judge = make_judge(engine, mode=mode, max_tokens=8, rubric="judges/pairwise", agree="mean")
    items = [*make_items("a", "a longer answer", "你"), *make_items("b", "c", prompt=make_prompt("p1"))]
    plan = judge.plan(items)
    assert sorted(i for batch in plan for i in batch) == list(range(5))
    rows = judge.judge(items)
    assert len(rows) == 8
    if mode == "logits":
        assert {r.outcome for r in rows} == {"ok"}
        assert all(r.score is not None and 0 < r.score < 1 for r in rows)
    assert [r.judgement_id for r in judge.judge(items[:3])] == [r.judgement_id for r in rows[:6]]
