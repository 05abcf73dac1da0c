from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.judges.length import LengthJudge
from selfalign.judges.scores import aggregate
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Judgement
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt

TEMPLATES = Templates([shipped_prompts()])
LOGITS = {"id": "rubric_logits"}


def score_of(value: int) -> ScriptedEngine:
    return ScriptedEngine(choices=lambda shown: [0.0 if i == value else -math.inf for i in range(6)])


def make_judge(engine: ScriptedEngine | None, judge: Any = LOGITS, **settings: Any) -> LengthJudge:
    config = LengthJudge.Config.model_validate({"judge": judge, **settings})
    return LengthJudge(config, JudgeContext(engine, 7, 1, TEMPLATES))


def own(rows: list[Judgement]) -> list[Judgement]:
    return [row for row in rows if row.judge == "length"]


def test_length_beyond_the_free_one_costs() -> None:
    rows = make_judge(score_of(4), penalty=0.5, free=100).judge(make_items("x" * 50, "x" * 300, "x" * 5000))
    assert [row.judge for row in rows] == ["rubric_logits"] * 3 + ["length"] * 3
    assert [row.score for row in own(rows)] == [4.0, pytest.approx(3.0), 0.0]
    assert json.loads(own(rows)[1].detail)["score"] == 4.0


def test_outside_the_band_there_is_no_score() -> None:
    items = [*make_items("x" * 10, "x" * 20, "x" * 60), *make_items("y" * 60, prompt=make_prompt("p1"))]
    rows = own(make_judge(score_of(4), band=[0.5, 2]).judge(items))
    assert [(r.score, r.outcome) for r in rows] == [(4.0, "ok"), (4.0, "ok"), (None, "out_of_range"), (4.0, "ok")]
    assert json.loads(rows[2].detail)["reason"] == "length outside the band"


def test_tokens_are_those_that_were_sampled() -> None:
    gold = as_judge_items(GoldItem("g", "test", "k", "en", "Write.", "b" * 900, "w", "", (), "[]"), 0)
    judge = make_judge(score_of(4), unit="tokens", penalty=1, band=[0.9, 1.1])
    rows = own(judge.judge(gold))
    assert [r.score for r in rows] == [4.0, 4.0]
    assert json.loads(rows[0].detail)["length"] is None
    rows = own(judge.judge(make_items("x" * 100)))
    assert [r.score for r in rows] == [3.0]


def test_failures_of_the_inner_judge_stay_what_they_are() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "Score: 9")
    row = own(make_judge(engine, "rubric_votes", penalty=1).judge(make_items("a")))[0]
    assert (row.score, row.outcome) == (None, "out_of_range")
    assert "reason" not in json.loads(row.detail)


def test_what_the_inner_judge_does_not_apply_to() -> None:
    assert make_judge(None, "verifier", penalty=1).judge(make_items("a")) == []


def test_it_wraps_pairwise_and_keeps_prompts_together() -> None:
    items = [i for n in range(4) for i in make_items("a" * 9, "b" * (n + 1), prompt=make_prompt(f"p{n}"))]
    engine = ScriptedEngine(choices=lambda shown: [math.log(0.5)] * 2)
    judge = make_judge(engine, "pairwise", penalty=1)
    assert judge.compares
    homes = [{n for n, b in enumerate(judge.plan(items)) for i in b if i // 2 == p} for p in range(4)]
    assert [len(home) for home in homes] == [1] * 4
    assert make_judge(None, band=[0, 2]).compares
    assert not make_judge(None, penalty=1).compares
    assert aggregate(judge.judge(items), "length", 1)["p0-c0"].outcomes == {"tie": 1}


def test_settings() -> None:
    for settings, message in (
        ({}, "needs a penalty"),
        ({"band": [2, 3]}, "band must be"),
        ({"penalty": -1}, "penalty"),
    ):
        with pytest.raises(ValidationError, match=message):
            LengthJudge.Config.model_validate({"judge": LOGITS, **settings})
    config = make_judge(None, penalty=1).config
    assert LengthJudge.Config.model_validate(config.model_dump(mode="json")) == config
    assert config.model_dump(mode="json")["judge"]["rubric"] == "judges/additive_short"
    assert make_judge(None, penalty=1).judge_hash != make_judge(None, penalty=2).judge_hash
    with pytest.raises(ConfigError, match="did you mean 'rubric_logits'"):
        validate_config({"name": "x", "judge": {"id": "length", "penalty": 1, "judge": "rubric_logit"}}, "run.yaml")
