from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import PromptFileError
from selfalign.judges.rubric_logits import RubricLogitsJudge, expected_score
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Templates, shipped_prompts
from tests.judges.scripted import ScriptedEngine, make_items

TEMPLATES = Templates([shipped_prompts()])


def make_judge(engine: Engine | None, **settings: object) -> RubricLogitsJudge:
    return RubricLogitsJudge(RubricLogitsJudge.Config.model_validate(settings), JudgeContext(engine, 7, 1, TEMPLATES))


def logs(*shares: float) -> list[float]:
    return [math.log(share) if share else -math.inf for share in shares]


def test_expected_score_renormalises_over_the_choices() -> None:
    # 0.1 and 0.3 of the probability: (0.1 * 0 + 0.3 * 4) / 0.4 = 3
    score, shares, mass = expected_score(logs(0.1, 0.3), [0, 4])
    assert score == pytest.approx(3)
    assert shares == pytest.approx((0.25, 0.75))
    assert mass == pytest.approx(0.4)


def test_expected_score_of_the_improbable() -> None:
    score, _, mass = expected_score([-2000.0, -2000.0], [1, 3])
    assert score == pytest.approx(2)
    assert mass == 0.0
    assert expected_score([-math.inf, -math.inf], [1, 3]) == (None, (0.0, 0.0), 0.0)
    assert expected_score([-math.inf, -1.0], [1, 3])[0] == 3


def test_one_row_a_candidate_with_its_probabilities() -> None:
    engine = ScriptedEngine(
        choices=lambda shown: logs(0, 0, 0, 0, 0.5, 0.5) if "good" in shown else logs(0.25, 0.25, 0, 0, 0, 0)
    )
    rows = make_judge(engine).judge(make_items("a GOOD one".lower(), "a bad one"))
    assert [r.score for r in rows] == [pytest.approx(4.5), pytest.approx(0.5)]
    assert [r.outcome for r in rows] == ["ok", "ok"]
    detail = json.loads(rows[1].detail)
    assert detail["mass"] == pytest.approx(0.5)
    assert detail["probabilities"]["1"] == pytest.approx(0.5)
    assert engine.calls == 1
    assert rows[0].seed is None


def test_too_little_mass_is_no_score() -> None:
    engine = ScriptedEngine(choices=lambda shown: logs(0.01, 0.01, 0, 0, 0, 0))
    assert make_judge(engine).judge(make_items("a"))[0].outcome == "ok"
    row = make_judge(engine, min_mass=0.1).judge(make_items("a"))[0]
    assert (row.score, row.outcome) == (None, "parse_error")
    nothing = ScriptedEngine(choices=lambda shown: logs(0, 0, 0, 0, 0, 0))
    assert make_judge(nothing).judge(make_items("a"))[0].outcome == "parse_error"


def test_an_overlong_prompt_is_truncated() -> None:
    engine = ScriptedEngine(choices=lambda shown: logs(0, 0, 0, 0, 0, 1), context_length=1000)
    rows = make_judge(engine).judge(make_items("x" * 2000, "y"))
    assert [(r.score, r.outcome) for r in rows] == [(None, "truncated"), (5.0, "ok")]
    assert rows[0].raw == ""
    assert [r.outcome for r in make_judge(engine).judge(make_items("x" * 2000))] == ["truncated"]


def test_the_answer_prefix_is_the_end_of_the_prompt() -> None:
    def answer(shown: str) -> list[float]:
        assert shown.endswith("Score: ")
        assert "{{ 7*7 }}" in shown
        return logs(0, 0, 0, 0, 0, 1)

    assert make_judge(ScriptedEngine(choices=answer)).judge(make_items("{{ 7*7 }}"))[0].score == 5


def test_a_rubric_without_numeric_choices_is_refused() -> None:
    with pytest.raises(PromptFileError, match="choices"):
        make_judge(None, rubric="judges/additive")


@pytest.mark.parametrize("rubric", ["judges/yes_no", "judges/yes_no_zh"])
def test_choices_may_be_words_with_values(rubric: str) -> None:
    judge = make_judge(ScriptedEngine(choices=lambda shown: logs(0.2, 0.6)), rubric=rubric)
    row = judge.judge(make_items("a"))[0]
    assert judge.score_range == (0.0, 1.0)
    assert row.score == pytest.approx(0.75)
    assert sorted(json.loads(row.detail)["probabilities"].values()) == pytest.approx([0.25, 0.75])


def test_range_and_hash() -> None:
    assert make_judge(None).score_range == (0.0, 5.0)
    assert make_judge(None).judge_hash != make_judge(None, min_mass=0.2).judge_hash


def test_a_real_model(tiny_model: Path) -> None:
    engine = TransformersEngine(TransformersEngine.Config(), tiny_model)
    judge = make_judge(engine)
    items = make_items("a", "a longer answer", "你好")
    together = judge.judge(items)
    assert [r.outcome for r in together] == ["ok"] * 3
    for item, row in zip(items, together, strict=True):
        detail = json.loads(row.detail)
        assert 0 < detail["mass"] < 1
        assert sum(detail["probabilities"].values()) == pytest.approx(1)
        alone = judge.judge([item])[0]
        assert alone.score == pytest.approx(row.score, abs=1e-4)
        assert alone.judgement_id == row.judgement_id
    assert sorted(i for batch in judge.plan(items) for i in batch) == [0, 1, 2]
