from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from selfalign.judges.scores import Votes
from selfalign.stages.drift import _figures
from selfalign.stages.held_out_judge import Question
from tests.evaluation.rounds import make_item


def asked(round: int) -> list[Question]:
    found = [make_item(f"p{i}", f"answer {i}", round=round) for i in range(6)]
    return [Question(item.prompt, (item.candidate,)) for item in found]


def said(questions: list[Question], scores: Mapping[int, float | None]) -> dict[str, Votes]:
    return {
        question.item_key(question.answers[0]): Votes(scores[i], 1, {"ok": 1}) if scores[i] is not None
        else Votes(None, 0, {"parse_error": 1})
        for i, question in enumerate(questions)
    }  # fmt: skip


def test_drift_is_paired_on_m0s_answers_and_self_liking_shows_beside_it() -> None:
    """The judge of M_2 gives a point more to M_0's answers, and three more to its own."""
    slices = {0: asked(0), 2: asked(2)}
    level = {i: float(i % 3) for i in range(6)}
    frozen = said(slices[0], level) | said(slices[2], level)
    current = said(slices[0], {i: v + 1 for i, v in level.items()}) | said(
        slices[2], {i: v + 3 if i else None for i, v in level.items()}
    )
    rows = {row.metric: row for row in _figures("run", 2, "rubric_logits", slices, frozen, current, seed=0)}
    drift = rows["judge_drift"]
    assert (drift.value, drift.low, drift.high, drift.n) == (1, 1, 1, 6)
    # p0, which the present judge gave no score, is left out on both sides.
    assert rows["frozen_judge_score"].value == pytest.approx((1 + 2 + 0 + 1 + 2) / 5)
    assert rows["self_judge_score"].value == pytest.approx((1 + 2 + 0 + 1 + 2) / 5 + 3)
    assert rows["self_judge_score"].n == 5
    detail = json.loads(rows["self_judge_score"].detail)
    assert detail["on_own"]["current_minus_frozen"] == pytest.approx(3)
    assert detail["left_out"] == {"frozen": {}, "current": {"parse_error": 1}}


def test_a_judge_without_a_scale_gives_no_figures() -> None:
    rows = _figures("run", 1, "pairwise", {0: asked(0), 1: asked(1)}, {}, {}, seed=0)
    assert [(row.value, row.n) for row in rows] == [(None, 0)] * 3
    assert json.loads(rows[0].detail)["left_out"]["frozen"] == {"not_judged": 12}
