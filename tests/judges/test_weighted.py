from __future__ import annotations

import json
import math
from typing import Any

import pytest

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.judges.members import most_common_failure
from selfalign.judges.weighted import WeightedJudge, weighted_mean
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Judgement
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt

TEMPLATES = Templates([shipped_prompts()])
CHECKED = make_prompt("p1", "No comma.", ["punctuation:no_comma"], "[{}]")
VERIFIER = {"id": "verifier", "weight": 1.0}
LOGITS = {"id": "rubric_logits", "weight": 0.25}
VOTES = {"id": "rubric_votes", "weight": 1.0}


def make_judge(engine: Engine | None, *members: dict[str, Any], **settings: Any) -> WeightedJudge:
    config = WeightedJudge.Config.model_validate({"id": "weighted", "members": list(members), **settings})
    return WeightedJudge(config, JudgeContext(engine, 7, 1, TEMPLATES))


def logits(value: int) -> list[float]:
    return [0.0 if i == value else -math.inf for i in range(6)]


def own(rows: list[Judgement]) -> list[Judgement]:
    return [row for row in rows if row.judge == "weighted"]


def test_scores_are_put_on_one_scale_and_averaged_by_weight() -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(3))
    rows = make_judge(engine, VERIFIER, LOGITS).judge(make_items("fine", "no, no", prompt=CHECKED))
    assert [row.judge for row in rows] == ["verifier"] * 2 + ["rubric_logits"] * 2 + ["weighted"] * 2
    # 3 of 5 is 0.6: (1 * 1 + 0.25 * 0.6) / 1.25 = 0.92 and (0 + 0.15) / 1.25 = 0.12
    assert [row.score for row in own(rows)] == [pytest.approx(0.92), pytest.approx(0.12)]
    assert [m["on_unit"] for m in json.loads(rows[-1].detail)["members"]] == [0.0, pytest.approx(0.6)]
    assert rows[-1].weights_hash == "weights"


def test_a_member_that_does_not_apply_is_left_out() -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(5))
    row = own(make_judge(engine, VERIFIER, LOGITS).judge(make_items("a, b")))[0]
    assert (row.score, row.outcome) == (1.0, "ok")
    assert json.loads(row.detail)["members"][0]["applies"] is False


def test_where_nobody_applies_there_is_no_score() -> None:
    row = own(make_judge(None, VERIFIER).judge(make_items("a")))[0]
    assert (row.score, row.outcome) == (None, "parse_error")
    assert json.loads(row.detail)["reason"] == "no member applies"


def test_a_failing_member_fails_the_whole_unless_it_may_be_passed_over() -> None:
    answers = ["Score: 4", "Score: 9", "Score: 8"]
    engine = ScriptedEngine(answer=lambda shown, vote: answers[vote])
    items = make_items("fine", prompt=CHECKED)
    row = own(make_judge(engine, VERIFIER, VOTES).judge(items))[0]
    assert (row.score, row.outcome) == (None, "out_of_range")
    row = own(make_judge(engine, VERIFIER, VOTES, require_all=False).judge(items))[0]
    assert (row.score, row.outcome) == (1.0, "ok")
    row = own(make_judge(engine, VOTES, require_all=False).judge(items))[0]
    assert (row.score, row.outcome) == (None, "out_of_range")


def test_two_judges_of_one_kind_are_kept_apart() -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(5))
    strict = {"id": "verifier", "mode": "all", "weight": 1.0}
    two = make_prompt("p2", "x", ["punctuation:no_comma", "startend:quotation"], "[{},{}]")
    row = own(make_judge(engine, VERIFIER, strict).judge(make_items("plain", prompt=two)))[0]
    assert row.score == pytest.approx((0.5 + 0.0) / 2)
    with pytest.raises(ConfigError, match="listed twice"):
        make_judge(engine, VERIFIER, VERIFIER)


def test_weighted_judges_nest() -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(5))
    inner = {"id": "weighted", "weight": 1.0, "members": [LOGITS]}
    judge = make_judge(engine, VERIFIER, inner)
    rows = judge.judge(make_items("a, b", prompt=CHECKED))
    assert [row.score for row in rows if row.judge_hash == judge.judge_hash] == [0.5]


def test_the_hash_covers_members_weights_and_rule() -> None:
    hashes = {
        make_judge(None, VERIFIER, LOGITS).judge_hash,
        make_judge(None, VERIFIER, {**LOGITS, "weight": 0.5}).judge_hash,
        make_judge(None, VERIFIER, {**LOGITS, "min_mass": 0.5}).judge_hash,
        make_judge(None, VERIFIER).judge_hash,
        make_judge(None, VERIFIER, LOGITS, require_all=False).judge_hash,
    }
    assert len(hashes) == 5


def test_it_needs_a_model_if_a_member_does() -> None:
    def needs(*members: dict[str, Any]) -> bool:
        return WeightedJudge.needs_engine(WeightedJudge.Config.model_validate({"members": list(members)}))

    assert not needs(VERIFIER)
    assert needs(VERIFIER, LOGITS)
    row = own(make_judge(ScriptedEngine(), VERIFIER).judge(make_items("a", prompt=CHECKED)))[0]
    assert row.weights_hash is None


def test_plans_cover_every_item_once_and_keep_a_prompts_candidates_together() -> None:
    items = [item for n in "abcde" for item in make_items("x", "yy", prompt=make_prompt(f"p{n}"))]
    plan = make_judge(ScriptedEngine(), VERIFIER, LOGITS).plan(items)
    assert sorted(i for batch in plan for i in batch) == list(range(10))
    assert [len({items[i].prompt.prompt_id for i in batch}) for batch in plan] == [1] * 5
    one = make_judge(ScriptedEngine(), VERIFIER, LOGITS).plan(make_items(*"abcdefg", prompt=CHECKED))
    assert len(one) == 1


def test_a_plan_does_not_part_what_a_member_compares() -> None:
    items = [i for n in range(4) for i in make_items("abcdefg"[n:], "x", "yy", prompt=make_prompt(f"p{n}"))]
    engine = ScriptedEngine(choices=lambda shown: logits(3) if "Score" in shown else [math.log(0.5)] * 2)
    judge = make_judge(engine, LOGITS, {"id": "pairwise", "weight": 1.0})
    plan = judge.plan(items)
    assert sorted(i for batch in plan for i in batch) == list(range(12))
    homes = [{n for n, batch in enumerate(plan) for i in batch if i // 3 == prompt} for prompt in range(4)]
    assert [len(home) for home in homes] == [1, 1, 1, 1]
    assert len(plan) > 1


def test_the_config_is_flat_and_comes_back_from_its_dump() -> None:
    config = make_judge(None, VERIFIER, LOGITS).config
    dumped = config.model_dump(mode="json")
    assert dumped["members"][0] == {"id": "verifier", "mode": "fraction", "weight": 1.0}
    assert WeightedJudge.Config.model_validate(dumped) == config


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([{"id": "verifier"}], "judge.members.0.weight: is required"),
        ([{"id": "verifier", "weight": 0}], "judge.members.0.weight: input should be greater than 0 (got 0)"),
        ([{"id": "verifier", "weight": 1, "mod": "all"}], "judge.members.0.mod: unknown key; did you mean 'mode'?"),
        ([{"id": "verifyer", "weight": 1}], "did you mean 'verifier'?"),
        ([VERIFIER, {"weight": 1}], "judge.members.1: needs an 'id'"),
        ([], "judge.members"),
    ],
)
def test_a_wrong_member_is_one_line_that_helps(members: list[Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config({"name": "x", "judge": {"id": "weighted", "members": members}}, "run.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pure_parts() -> None:
    assert weighted_mean([(1.0, 0.5), (3.0, 0.9)]) == pytest.approx(0.8)
    assert most_common_failure({"ok": 5, "refused": 2, "parse_error": 1}) == "refused"
    assert most_common_failure({"refused": 1, "parse_error": 1}) == "parse_error"
    assert most_common_failure({"ok": 1}) == "parse_error"
