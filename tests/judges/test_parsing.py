from __future__ import annotations

import pytest

from selfalign.judges.parsing import parse_score
from selfalign.templates import ScoreFormat, Templates, shipped_prompts
from selfalign.types import FinishReason

TEMPLATES = Templates([shipped_prompts()])


def score_format(name: str) -> ScoreFormat:
    found = TEMPLATES.load(name).score
    assert found is not None
    return found


ADDITIVE = score_format("judges/additive")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Score: 4", 4),
        ("Relevant and clear.\nScore: 3", 3),
        ("score: 0", 0),
        ("Score: 5.", 5),
        ("Score: 4/5", 4),
        ("Score: 4 / 5 points", 4),
        ("**Score:** 4", 4),
        ("**Score: 4**", 4),
        ("Score: **4**", 4),
        ("Score (0-5): 4", 4),
        ("Score (out of 5): 4", 4),
        ("Score: <3>", 3),
        ("Score: [2]", 2),
        ("SCORE = 2", 2),
        ("Score 2", 2),
        ("Score: 3.5", 3.5),
        ("Score: 1 so far ... Score: 4", 4),
        ("Score: 9, no: Score: 4", 4),
        ("I'm sorry to say that it is weak.\nScore: 1", 1),
        ("Score: 4 out of 5", 4),
        ("Score: 4 of 5 points", 4),
        ("Score: 4 points out of five", 4),
        ("Score: **4** (out of 5)", 4),
        ("Score: 2 on a scale from 0 to 5", 2),
        ("Score: 4. Out of 10 answers it is the best.", 4),
        ("Score: 4 of the points", 4),
        ("Score: 4, since 3 of 4 claims hold", 4),
    ],
)
def test_scores_that_are_read(raw: str, expected: float) -> None:
    assert parse_score(raw, ADDITIVE, "stop") == (expected, "ok")


@pytest.mark.parametrize(
    ("raw", "finish", "outcome"),
    [
        ("", "stop", "parse_error"),
        ("A fine answer.", "stop", "parse_error"),
        ("Score: <points>", "stop", "parse_error"),
        ("Score: four", "stop", "parse_error"),
        ("Score: 3-4", "stop", "parse_error"),
        ("Score: 3 – 4", "stop", "parse_error"),
        ("Score: 3,5", "stop", "parse_error"),
        ("Score:\n1. Relevance is given", "stop", "parse_error"),
        ("underscore 4", "stop", "parse_error"),
        ("I would give it 4 of 5.", "stop", "parse_error"),
        ("Score: 6", "stop", "out_of_range"),
        ("Score: -1", "stop", "out_of_range"),
        ("Score: 45", "stop", "out_of_range"),
        ("Score: 5.5", "stop", "out_of_range"),
        ("Score: 4/10", "stop", "out_of_range"),
        ("Score: 5 out of 10", "stop", "out_of_range"),
        ("Score: **5** of 10", "stop", "out_of_range"),
        ("Score: 5 points out of 10", "stop", "out_of_range"),
        ("Score: 5 (out of 10)", "stop", "out_of_range"),
        ("Score: 4 out of ten", "stop", "out_of_range"),
        ("Score: 4, out of a possible 10", "stop", "out_of_range"),
        ("Score: 5 on a scale from 1 to 10", "stop", "out_of_range"),
        ("Score (out of 10): 5", "stop", "out_of_range"),
        ("Score (0-10): 5", "stop", "out_of_range"),
        ("Score: 5 %", "stop", "out_of_range"),
        ("Score: 3 of 4 criteria", "stop", "out_of_range"),
        ("Score: 4/5. On ten points, Score: 5 of 10", "stop", "out_of_range"),
        ("Score: 4. On second thoughts, Score: 7", "stop", "out_of_range"),
        ("Score: " + "9" * 400, "stop", "out_of_range"),
        ("The response earns", "length", "truncated"),
        ("", "length", "truncated"),
        ("Score: 1", "length", "truncated"),  # might have become 1.5 or 10
        ("I cannot judge this.", "stop", "refused"),
        ("I can’t help with that", "length", "refused"),
        ("I'm sorry, but no.", "stop", "refused"),
        ("As an AI language model I have no opinion", "stop", "refused"),
        ("抱歉，我无法评价。", "stop", "refused"),
        ("作为一个人工智能，我没有看法。", "stop", "refused"),
    ],
)
def test_answers_without_a_usable_score_say_why(raw: str, finish: FinishReason, outcome: str) -> None:
    assert parse_score(raw, ADDITIVE, finish) == (None, outcome)


def test_a_score_before_the_end_of_a_cut_answer_counts() -> None:
    assert parse_score("Score: 3\nThe resp", ADDITIVE, "length") == (3, "ok")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("相关且清晰。\n得分：4", (4, "ok")),
        ("总分: 3分", (3, "ok")),
        ("得分：4/5", (4, "ok")),
        ("**得分：** 2", (2, "ok")),
        ("Score: 5", (5, "ok")),
        ("得分：4／10", (None, "out_of_range")),
        ("得分：3到4", (None, "parse_error")),
        ("得分：<分数>", (None, "parse_error")),
        ("得分：8", (None, "out_of_range")),
        ("得分：4分（满分5分）", (4, "ok")),
        ("得分：5分，满分10分", (None, "out_of_range")),
        ("得分：5（10分制）", (None, "out_of_range")),
    ],
)
def test_chinese_rubric(raw: str, expected: tuple[float | None, str]) -> None:
    assert parse_score(raw, score_format("judges/additive_zh"), "stop") == expected


def test_a_rubric_of_its_own_scale_and_pattern_knows_other_scales_too() -> None:
    ten, percent = (ScoreFormat(min=0, max=top, pattern=r"grade (\d+)") for top in (10, 100))
    assert parse_score("grade 7 out of 10", ten, "stop") == (7, "ok")
    assert parse_score("grade 4 out of 5", ten, "stop") == (None, "out_of_range")
    assert parse_score("grade 80%", percent, "stop") == (80, "ok")
    assert parse_score("grade 4 of 5", percent, "stop") == (None, "out_of_range")


def test_no_failure_has_a_number_that_could_become_a_label() -> None:
    """Oxen and open-instruct stored -1 for these, which then was the lowest score and so "rejected"."""
    for raw in ("", "no", "Score: -1", "Score: ?", "Score: 11/10", "Sorry"):
        score, outcome = parse_score(raw, ADDITIVE, "stop")
        assert score is None
        assert outcome != "ok"


def test_a_pattern_with_several_groups_is_read_as_text() -> None:
    """lucidrains' parser called .isnumeric() on the tuple that several groups give, and failed on every match."""
    assert parse_score("4|x", ScoreFormat(min=0, max=5, pattern=r"(\d)\|(\w)"), "stop") == (4, "ok")


def test_a_captured_word_is_a_parse_error() -> None:
    """distilabel raised IndexError on text where a number was expected."""
    assert parse_score("Score: high", ScoreFormat(min=0, max=5, pattern=r"Score: (\w+)"), "stop") == (
        None,
        "parse_error",
    )


def test_a_longer_word_is_not_the_word() -> None:
    """taosmd: "INCORRECT" contains "CORRECT"."""
    assert parse_score("Subscore: 5", ADDITIVE, "stop") == (None, "parse_error")
