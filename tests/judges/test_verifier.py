from __future__ import annotations

import json

import pytest

from selfalign.judges.verifier import VerifierJudge
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates
from tests.judges.scripted import make_items, make_prompt

TWO = make_prompt(
    "p1", "Greet, no comma, with hello.", ["punctuation:no_comma", "keywords:existence"], '[{},{"keywords":["hello"]}]'
)


def make_judge(**settings: object) -> VerifierJudge:
    return VerifierJudge(VerifierJudge.Config.model_validate(settings), JudgeContext(None, 0, 1, Templates([])))


def test_the_score_is_the_share_of_followed_constraints() -> None:
    rows = make_judge().judge(make_items("hello you", "hello, you", "oh, you", "", prompt=TWO))
    assert [(r.score, r.outcome) for r in rows] == [(1.0, "ok"), (0.5, "ok"), (0.0, "ok"), (0.0, "ok")]
    assert json.loads(rows[1].detail) == {
        "ids": ["punctuation:no_comma", "keywords:existence"],
        "strict": [False, True],
        "loose": [False, True],
    }
    assert {r.weights_hash for r in rows} == {None}


def test_all_or_nothing() -> None:
    rows = make_judge(mode="all").judge(make_items("hello you", "hello, you", prompt=TWO))
    assert [r.score for r in rows] == [1.0, 0.0]
    assert make_judge(mode="all").judge_hash != make_judge().judge_hash


def test_a_prompt_without_constraints_has_nothing_to_verify() -> None:
    assert make_judge().judge(make_items("anything")) == []


def test_a_failing_checker_is_reported_and_not_followed() -> None:
    prompt = make_prompt("p2", "x", ["keywords:existence"], '[{"keywords":["("]}]')
    row = make_judge().judge(make_items("hello", prompt=prompt))[0]
    assert row.score == 0.0
    assert "keywords:existence" in json.loads(row.detail)["errors"]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (256, [256]), (257, [256, 1])])
def test_batches(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in make_judge().plan(make_items(*["a"] * count))] == sizes


def test_it_needs_no_model() -> None:
    assert not VerifierJudge.needs_engine(VerifierJudge.Config())
