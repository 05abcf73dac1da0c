"""Hand-worked figures, and simulated judges whose truth is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.calibration import METRICS
from selfalign.calibration.biases import length_bias
from selfalign.calibration.figures import JudgeFigures, measure
from selfalign.calibration.report import as_json, evaluation_rows
from selfalign.calibration.verdicts import JudgeIdentity, judge_verdicts
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.types import Judgement, Outcome

JUDGE = JudgeIdentity("rubric", "hash", 1, (0.0, 1.0))


def gold(number: int, prompt: str = "", better: str = "good", worse: str = "bad", **changes: Any) -> GoldItem:
    values: dict[str, Any] = {
        "split": "test", "kind": "fact", "language": "en", "reference": "", "instruction_id_list": (), "kwargs": "[]",
    }  # fmt: skip
    return GoldItem(
        key=f"g{number:04d}", prompt=prompt or f"prompt {number}", better=better, worse=worse, **values | changes
    )


def vote(
    item: GoldItem, side: int, score: float | None, outcome: Outcome = "ok", sample: int = 0, **detail: Any
) -> Judgement:
    candidate = as_judge_items(item, 0)[side].candidate.candidate_id
    return Judgement(
        f"{candidate}{sample}", candidate, 0, "rubric", "hash", None, sample, score, outcome, "", None,
        json.dumps(detail),
    )  # fmt: skip


def scored(item: GoldItem, better: float, worse: float) -> list[Judgement]:
    return [vote(item, 0, better), vote(item, 1, worse)]


def test_every_kind_of_verdict_counts_as_documented() -> None:
    items = [gold(i, kind="fact" if i < 3 else "off_topic", language="zh" if i == 1 else "en") for i in range(8)]
    rows = [
        *scored(items[0], 0.9, 0.1),
        *scored(items[1], 0.2, 0.3),
        *scored(items[2], 0.5, 0.5),
        vote(items[3], 0, None, "disagree"), vote(items[3], 1, None, "disagree"),
        vote(items[4], 0, None, "parse_error"), vote(items[4], 1, 0.4),
        *scored(items[5], 1.0, 0.0),
        vote(items[6], 0, 0.7),  # one row is missing: not undecided, unusable
    ]  # fmt: skip
    found = measure(items, rows, JUDGE)
    assert found.results == {"right": 2, "wrong": 1, "tie": 2, "invalid": 2}
    assert (found.n, found.skipped) == (7, 1)
    assert found.accuracy.value == pytest.approx((2 + 2 * 0.5) / 7)
    assert found.decided.value == pytest.approx(2 / 3)
    assert found.ties.value == pytest.approx(2 / 7)
    assert found.outcomes == {"disagree": 2, "ok": 10, "parse_error": 1}
    assert found.parse_rate.value == pytest.approx(12 / 13)
    assert found.by_kind["fact"].value == pytest.approx(1.5 / 3)
    assert found.by_kind["fact"].n == 3
    assert found.by_language["zh"].value == 0
    assert sum(found.histogram.better) == 5
    assert found.histogram.better[9] == 2, "0.9 and the upper end"


def test_too_few_votes_are_no_score_and_votes_are_averaged() -> None:
    items = [gold(0), gold(1)]
    rows = [
        *(vote(items[0], 0, score, sample=i) for i, score in enumerate((1.0, 0.0, 0.8))),
        *(vote(items[0], 1, score, sample=i) for i, score in enumerate((0.0, 0.5, 0.8))),
        vote(items[1], 0, 1.0), vote(items[1], 0, None, "parse_error", sample=1), *(vote(items[1], 1, 0.0, sample=i) for i in range(2)),
    ]  # fmt: skip
    found = measure(items, rows, JudgeIdentity("rubric", "hash", 2))
    assert found.results == {"right": 1, "wrong": 0, "tie": 0, "invalid": 1}
    # Votes of item 0: better, worse, equal: no two agree. Item 1 has one pair of votes only.
    assert found.consistency is not None
    assert (found.consistency.value, found.consistency.n) == (0, 1)


def test_other_judges_rows_do_not_count() -> None:
    item = gold(0)
    foreign = [Judgement(**{**row.__dict__, "judge_hash": "other"}) for row in scored(item, 1.0, 0.0)]
    assert measure([item], foreign, JUDGE).n == 0


def test_position_bias_is_read_from_both_orders() -> None:
    items = [gold(i) for i in range(3)]
    orders = [(0.9, 0.7), (0.8, 0.3), (0.2, 0.1)]
    rows = [vote(item, 0, 0.5, p_first=a, p_second=b) for item, (a, b) in zip(items, orders, strict=True)]
    found = measure(items, rows, JUDGE).position
    assert found is not None
    assert found.to_first.value == pytest.approx((0.1 + 0.25 + 0.05) / 3)
    assert found.flips.value == pytest.approx(1 / 3)
    # The other answer's rows say the same.
    other = [vote(item, 1, 0.5, p_first=1 - b, p_second=1 - a) for item, (a, b) in zip(items, orders, strict=True)]
    assert measure(items, other, JUDGE).position == found
    assert measure(items, scored(items[0], 1, 0), JUDGE).position is None


def test_length_bias_by_hand() -> None:
    longer, shorter, matched = ("x" * 40, "x" * 20), ("x" * 20, "y" * 40), ("x" * 100, "y" * 95)
    texts = [longer] * 4 + [shorter] * 4 + [matched]
    items = [gold(i, better=better, worse=worse) for i, (better, worse) in enumerate(texts)]
    right = [1, 1, 1, 1, 0, 0, 1, 0, 1]
    rows = [row for item, ok in zip(items, right, strict=True) for row in scored(item, ok, 1 - ok)]
    found = length_bias(judge_verdicts(items, rows, JUDGE)[0])
    assert [f.value for f in (found.longer, found.shorter, found.matched)] == [1, 0.25, 1]
    assert found.difference.value == pytest.approx(0.75)
    assert found.difference.low is not None
    assert 0 < found.difference.low < 0.75
    assert found.slope.value is None, "nine items are no base for a slope"


def simulated(
    n: int, accuracy: float, seed: int, *, per_prompt: int = 1, pull: float = 0.0, noise: float = 0.0
) -> JudgeFigures:
    """A judge right with ``accuracy``, moved ``pull`` log-odds a doubling of length; prompts' items are alike."""
    random_ = random.Random(seed)
    items, rows = [], []
    for number in range(n):
        if number % per_prompt == 0:
            tilt = random_.gauss(0, noise)
        doublings = random_.choice([-2, -1, 0, 1, 2])
        better, worse = "b" * (64 * 2 ** max(doublings, 0)), "w" * (64 * 2 ** max(-doublings, 0))
        item = gold(number, prompt=f"prompt {number // per_prompt}", better=better + str(number), worse=worse)
        odds = math.log(accuracy / (1 - accuracy)) + pull * doublings + tilt
        gap = abs(random_.gauss(0.3, 0.1)) + 1e-3
        sign = 1 if random_.random() < 1 / (1 + math.exp(-odds)) else -1
        items.append(item)
        rows += scored(item, 0.5 + sign * gap / 2, 0.5 - sign * gap / 2)
    return measure(items, rows, JUDGE)


def test_a_known_accuracy_lies_in_the_interval_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        found = simulated(120, 0.7, seed).accuracy
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.7 <= found.high
    assert hits >= 53


def test_items_of_one_prompt_widen_the_interval() -> None:
    def width(figures: JudgeFigures) -> float:
        return (figures.accuracy.high or 0) - (figures.accuracy.low or 0)

    assert width(simulated(240, 0.7, 3, per_prompt=8, noise=3.0)) > 1.3 * width(simulated(240, 0.7, 3))


def test_a_pull_to_length_is_found_and_its_absence_too() -> None:
    pulled, fair = simulated(600, 0.7, 1, pull=0.8).length, simulated(600, 0.7, 1).length
    assert pulled.slope.low is not None
    assert pulled.slope.high is not None
    assert pulled.slope.low <= 0.8 <= pulled.slope.high
    assert (pulled.difference.low or 0) > 0.2
    assert fair.slope.low is not None
    assert fair.slope.high is not None
    assert fair.slope.low < 0 < fair.slope.high


def test_every_documented_metric_is_written_and_every_written_one_documented() -> None:
    items = [gold(i, better="x" * (1 + i)) for i in range(12)]
    rows = [
        vote(
            item, side, float((item.key > "g0003") != bool(side)), sample=sample, p_first=0.6, p_second=0.7, n_tokens=9
        )
        for item in items
        for side in (0, 1)
        for sample in (0, 1)
    ]
    written = evaluation_rows(measure(items, rows, JUDGE), "run", 1, "gold_test", {"gold": "g"})
    assert {row.metric for row in written} == set(METRICS)
    for row in written:
        detail = json.loads(row.detail)
        assert (detail["judge"], detail["judge_hash"], detail["gold"]) == ("rubric", "hash", "g")
        assert row.value is not None
        assert row.low is None or row.low <= row.value <= (row.high or 0)


def test_json_has_what_others_read_from_it() -> None:
    item = gold(0)
    found = as_json(measure([item], scored(item, 1, 0), JUDGE), label="own")
    assert found["judge_pairwise_accuracy"] == 1
    assert found["judge_hash"] == "hash"
    assert 0 < found["low"] < found["high"] == 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


SCORES = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SCORES, SCORES, st.integers(0, 3)), max_size=25), st.randoms(use_true_random=False))
def test_any_rows_give_figures_in_range_whatever_their_order(
    sides: Sequence[tuple[float | None, float | None, int]], shuffled: random.Random
) -> None:
    items = [gold(i, prompt=f"p{cluster}", worse=f"bad {i}") for i, (_, _, cluster) in enumerate(sides)]
    rows = [
        vote(item, side, score, "ok" if score is not None else "parse_error")
        for item, scores in zip(items, sides, strict=True)
        for side, score in enumerate(scores[:2])
    ]
    found = evaluation_rows(measure(items, rows, JUDGE), "run", 0, "gold_test", {})
    for row in found:
        assert row.value is None or -1 <= row.value <= 1 or row.metric == "judge_length_slope"
        assert row.low is None or row.low <= (row.value or 0) + 1e-12
    shuffled.shuffle(items)
    shuffled.shuffle(rows)
    assert evaluation_rows(measure(items, rows, JUDGE), "run", 0, "gold_test", {}) == found


def test_the_page_on_calibration_lists_every_metric() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "calibration.md").read_text(encoding="utf-8")
    for name, meaning in METRICS.items():
        assert f"| `{name}` | {meaning} |" in page
