from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.judges.calibrated_weights import log_odds, read_weights
from selfalign.judges.jury import JuryJudge, combine, disagreement, weighted_median
from selfalign.judges.members import whole_prompts
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Judgement
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt

TEMPLATES = Templates([shipped_prompts()])
#: Three judges of one kind that differ in a setting, and so in their votes.
LOGITS = [{"id": "rubric_logits", "min_mass": m} for m in (0.0, 0.1, 0.2)]
VERIFIER = {"id": "verifier"}


def logits(value: int) -> list[float]:
    return [0.0 if i == value else -math.inf for i in range(6)]


def make_judge(*members: Any, engine: ScriptedEngine | None = None, **more: Any) -> JuryJudge:
    config = JuryJudge.Config.model_validate({"members": list(members), **more})
    return JuryJudge(config, JudgeContext(engine, 7, 1, TEMPLATES))


def own(rows: list[Judgement]) -> list[Judgement]:
    return [row for row in rows if row.judge == "jury"]


CHECKED = make_prompt("p1", "No comma.", ["punctuation:no_comma"], "[{}]")


def test_members_are_kept_and_combined_on_one_scale() -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(3))
    rows = make_judge("verifier", LOGITS[0], engine=engine).judge(make_items("fine", "no, no", prompt=CHECKED))
    assert sorted(row.judge for row in rows) == ["jury"] * 2 + ["rubric_logits"] * 2 + ["verifier"] * 2
    first, second = own(rows)
    assert (first.score, second.score) == (pytest.approx(0.8), pytest.approx(0.3))
    detail = json.loads(second.detail)
    assert (detail["std"], detail["range"]) == (pytest.approx(0.3), pytest.approx(0.6))
    # the verifier ranks as the jury does; the rubric sees no difference, and calls both the best
    assert (json.loads(first.detail)["rank_agreement"], detail["rank_agreement"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("measure", "limit", "outcome"),
    [("range", 0.6, "ok"), ("range", 0.59, "disagree"), ("std", 0.29, "disagree"), ("rank", 0.5, "ok"), ("rank", 0.4, "disagree")],
)  # fmt: skip
def test_too_much_disagreement_is_no_score(measure: str, limit: float, outcome: str) -> None:
    engine = ScriptedEngine(choices=lambda shown: logits(3))
    judge = make_judge("verifier", LOGITS[0], engine=engine, disagreement=measure, disagree_above=limit)
    row = own(judge.judge(make_items("fine", "no, no", prompt=CHECKED)))[1]
    assert (row.outcome, row.score is None) == (outcome, outcome == "disagree")
    if outcome == "disagree":
        assert json.loads(row.detail)["combined"] == pytest.approx(0.3)


def test_failures_are_those_of_the_members() -> None:
    nothing = ScriptedEngine(choices=lambda shown: [-math.inf] * 6)
    items = make_items("fine", prompt=CHECKED)
    assert [r.outcome for r in own(make_judge("verifier", LOGITS[0], engine=nothing).judge(items))] == ["parse_error"]
    lenient = make_judge("verifier", LOGITS[0], engine=nothing, require_all=False)
    assert [r.score for r in own(lenient.judge(items))] == [1.0]
    plain = make_items("fine")
    row = own(make_judge("verifier", {"id": "verifier", "mode": "all"}).judge(plain))[0]
    assert (row.outcome, json.loads(row.detail)["reason"]) == ("parse_error", "no member applies")


def test_majority_counts_preferences_and_not_their_strength() -> None:
    # two members prefer 0 by a little, one prefers 1 by all it can
    opinions = {0: [0.6, 0.6, 0.0], 1: [0.5, 0.5, 1.0]}
    assert combine(opinions, [1, 1, 1], "majority") == {0: 1.0, 1: 0.0}
    assert combine(opinions, [1, 1, 3], "majority") == {0: 0.0, 1: 1.0}
    assert combine(opinions, [1, 1, 2], "majority") == {0: 0.5, 1: 0.5}
    assert combine(opinions, [1, 1, 1], "mean") == {0: pytest.approx(0.4), 1: pytest.approx(2 / 3)}
    assert combine(opinions, [1, 1, 1], "median") == {0: 0.6, 1: 0.5}
    assert combine({0: [1.0, None], 1: [0.0, None], 2: [0.5, 0.5]}, [1, 1], "majority") == {0: 1.0, 1: 0.0, 2: 0.5}


def test_majority_needs_two_candidates() -> None:
    judge = make_judge("verifier", {"id": "verifier", "mode": "all"}, combine="majority")
    row = own(judge.judge(make_items("fine", prompt=CHECKED)))[0]
    assert (row.outcome, row.score) == ("parse_error", None)
    assert "no other candidate" in json.loads(row.detail)["reason"]
    scores = [row.score for row in own(judge.judge(make_items("fine", "a, b", "c, d", prompt=CHECKED)))]
    assert scores == [1.0, 0.25, 0.25]


def test_the_weighted_median() -> None:
    assert weighted_median([(1, 0.2)]) == 0.2
    assert weighted_median([(1, 0.2), (1, 0.8)]) == 0.5
    assert weighted_median([(1, 0.9), (1, 0.1), (1, 0.5)]) == 0.5
    assert weighted_median([(3, 0.9), (1, 0.1), (1, 0.5)]) == 0.9


@given(
    st.dictionaries(st.integers(0, 5), st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    st.sampled_from(["mean", "median", "majority"]),
)
@settings(max_examples=150, deadline=None)
def test_combinations_stay_in_range_and_respect_agreement(opinions: Any, weights: list[float], how: Any) -> None:
    scores = combine(opinions, weights, how)
    assert scores.keys() == opinions.keys()
    assert all(0 <= score <= 1 + 1e-9 for score in scores.values())
    for i, own_ in opinions.items():
        assert disagreement(i, opinions, scores).range <= 1
        for j, other in opinions.items():
            if all(x > y + 1e-6 for x, y in zip(own_, other, strict=True)):
                assert scores[i] > scores[j] - 1e-9, "what all members prefer is not put last"


def test_weights_by_calibration(tmp_path: Path) -> None:
    plain = make_judge(*LOGITS)
    hashes = [judge.judge_hash for judge, _ in plain._members.judges]
    file = tmp_path / "calibration.json"
    accuracies = [0.8, 0.5, 0.6]
    figures = [{"judge_hash": h, "judge_pairwise_accuracy": a} for h, a in zip(hashes, accuracies, strict=True)]
    file.write_text(json.dumps(figures))
    judge = make_judge(*LOGITS, weights="calibration", calibration=str(file))
    assert [round(w, 4) for _, w in judge._members.judges] == [1.3863, 0.4055]
    assert judge.judge_hash != plain.judge_hash
    figures.pop()
    file.write_text(json.dumps(figures))
    with pytest.raises(ConfigError, match="has no accuracy of member 'rubric_logits'"):
        make_judge(*LOGITS, weights="calibration", calibration=str(file))
    file.write_text(json.dumps([{**f, "judge_pairwise_accuracy": 0.4} for f in figures]))
    with pytest.raises(ConfigError, match="no member judges better than chance"):
        make_judge(*LOGITS[:2], weights="calibration", calibration=str(file))


@pytest.mark.parametrize(
    "data",
    [
        [{"judge_hash": "h", "judge_pairwise_accuracy": 0.75, "name": "x"}],
        {"judges": [{"judge_hash": "h", "judge_pairwise_accuracy": {"value": 0.75, "n": 100, "low": 0.6}}]},
        [{"judge_hash": "h", "metric": "judge_pairwise_accuracy", "value": 0.75, "n": 9, "split": "calibrate"},
         {"judge_hash": "h", "metric": "judge_pairwise_accuracy", "value": 0.9, "split": "test"},
         {"judge_hash": "h", "metric": "judge_parse_rate", "value": 0.1}],
        [{"judge_hash": "h", "judge_pairwise_accuracy": 0.6}, {"judge_hash": "h", "judge_pairwise_accuracy": 0.75}],
    ],
)  # fmt: skip
def test_calibrations_in_several_shapes(data: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(data))
    assert read_weights(file) == {"h": pytest.approx(math.log(3))}


@pytest.mark.parametrize(
    "text", ["", "[]", '[{"judge_hash": "h"}]', '[{"judge_hash": "h", "judge_pairwise_accuracy": 7}]']
)
def test_a_calibration_that_says_nothing_is_the_users_to_mend(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.json"):
        read_weights(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_weights(tmp_path / "none.json")


def test_log_odds() -> None:
    assert log_odds(0.75) == pytest.approx(math.log(3))
    assert [log_odds(a) for a in (0.5, 0.3, 0.0)] == [0, 0, 0]
    assert log_odds(1.0, 100) == pytest.approx(math.log(199))
    assert log_odds(1.0) == pytest.approx(math.log(99))


def test_the_hash_covers_what_decides() -> None:
    judges = [
        make_judge(*LOGITS), make_judge(*LOGITS[:2]), make_judge(*LOGITS, combine="median"),
        make_judge(*LOGITS, disagree_above=0.5), make_judge(*LOGITS, disagree_above=0.5, disagreement="std"),
        make_judge({**LOGITS[0], "weight": 2}, *LOGITS[1:]), make_judge(*LOGITS, require_all=False),
    ]  # fmt: skip
    assert len({judge.judge_hash for judge in judges}) == len(judges)


def test_batches_hold_whole_prompts() -> None:
    items = [item for n in range(3) for item in make_items("a", "b", prompt=make_prompt(f"p{n}"))]
    assert whole_prompts(items, [[5, 0], [3, 1], [2, 4]]) == [[5, 4], [0, 1], [3, 2]]
    assert whole_prompts(items, [[0, 1, 2, 3], [4, 5]]) == [[0, 1, 2, 3], [4, 5]]
    assert whole_prompts([], []) == []
    engine = ScriptedEngine(choices=lambda shown: logits(2))
    judge = make_judge(*LOGITS, engine=engine)
    together = {row.judgement_id: row for row in judge.judge(items)}
    apart = {row.judgement_id: row for batch in judge.plan(items) for row in judge.judge([items[i] for i in batch])}
    assert together == apart


@pytest.mark.parametrize(
    ("judge", "expected"),
    [
        ({"members": ["verifier"]}, "judge.members"),
        ({"members": ["verifyer", "verifier"]}, "did you mean 'verifier'?"),
        ({"members": LOGITS, "weights": "calibration"}, "belong together"),
    ],
)
def test_wrong_settings_are_one_line(judge: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config({"name": "x", "judge": {"id": "jury", **judge}}, "run.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    config = make_judge(*LOGITS).config
    assert JuryJudge.Config.model_validate(config.model_dump(mode="json")) == config
