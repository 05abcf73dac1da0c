from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from selfalign.evaluation import METRICS
from selfalign.registry import plugins
from selfalign.store.branches import FIGURES_OF
from selfalign.types import Evaluation
from tests.evaluation.rounds import checked, make_input, make_pair, make_training
from tests.evaluation.test_displacement import JUDGEMENTS, LABELS, RANKINGS, F

#: Written by stages of their own, which need a model.
BY_STAGES = {name for names in FIGURES_OF.values() for name in names}


def every_row() -> list[Evaluation]:
    verified = checked(1, {0: {"a": [0], "b": [1]}, 1: {"a": [1], "b": [1]}})
    data = make_input(1, verified.candidates, verified.judgements, {**LABELS, **RANKINGS, **JUDGEMENTS, **F})
    # A round whose training candidates repeat those of the round before.
    before, now = (
        make_training("a", 0, "one two three four five six"),
        make_training("a", 1, "one two three four five six"),
    )
    data = replace(data, training_candidates={0: [before], 1: [now]}, pairs={1: [make_pair(now, now)]}, n_trained=4)
    rows = []
    for plugin in plugins("evaluate"):
        if plugin.target.startswith("selfalign."):
            evaluator = plugin.load()
            assert evaluator.name == plugin.name == evaluator.Config().id
            rows += evaluator(evaluator.Config()).evaluate(data)
    return rows


def test_every_metric_is_documented_and_every_documented_one_is_written() -> None:
    assert {row.metric for row in every_row()} == METRICS.keys() - BY_STAGES


def test_metrics_have_plain_names_and_one_line() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in METRICS)
    assert all(meaning and "\n" not in meaning for meaning in METRICS.values())


def test_rows_have_one_key_each_and_hold_no_nan() -> None:
    rows = every_row()
    assert len({(row.run, row.round, row.metric, row.split) for row in rows}) == len(rows)
    for row in rows:
        assert all(number is None or math.isfinite(number) for number in (row.value, row.low, row.high))
        assert isinstance(json.loads(row.detail), dict)
        if row.low is not None and row.high is not None and row.value is not None:
            assert row.low <= row.value <= row.high
