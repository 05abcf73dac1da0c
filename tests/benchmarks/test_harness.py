"""The harness itself: what a turn gives, what a row says, and what is kept. The benchmarks are not tests."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.benchmarks import __main__, table
from tests.benchmarks.growth import Curve
from tests.benchmarks.measure import Measure, Row, Side, SideFailed, paired, ratios, skipped, turn
from tests.benchmarks.plot import svg

MACHINE = {"cpu": "a processor", "cores": 2, "threads": 2}


def measures(*seconds: float, units: float = 10.0) -> list[Measure]:
    return [Measure(units, s, memory_mib=100 * s, cpu_seconds=s / 2) for s in seconds]


def test_a_row_is_the_median_of_the_pairs_ratios_with_the_extremes() -> None:
    row = ratios("x", measures(1, 2, 4), measures(4, 4, 4), "units/s", "at least 2")
    # rates 10, 5, 2.5 against 2.5: ratios 4, 2, 1
    assert (row.ours, row.peer, row.ratio, row.spread, row.runs) == (5.0, 2.5, 2.0, (1.0, 4.0), 3)
    assert row.memory == {"ours": 200, "peer": 400}
    assert row.cpu_ratio == 2.0
    assert row.met is True


@pytest.mark.parametrize(
    ("goal", "met"), [("at least 2.1", False), ("at most 2.0", True), ("at most 1.9", False), ("", None)]
)
def test_whether_a_goal_is_met(goal: str, met: bool | None) -> None:
    assert ratios("x", measures(1), measures(2), "units/s", goal).met is met
    assert skipped("x", "units/s", "no such package", goal).met is None


def test_a_turn_is_a_process_with_its_own_peak_memory() -> None:
    (ours, peer) = paired([Side("store", "store:insert", {"batch": 50, "count": 100})] * 2, 1)
    for (measure,) in (ours, peer):
        assert measure.units == 100 and measure.seconds > 0 and measure.memory_mib > 20
        assert measure.cpu_seconds is not None


def test_a_side_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(SideFailed, match=r"broken: ended with 1: .*no_such"):
        turn(Side("broken", "store:no_such"))


def test_rows_replace_earlier_ones_of_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    first = Row("a", 1.0, 1.0, 1.0, 1, (1.0, 1.0), "s", "at most 0.5")
    table.keep([first, skipped("b", "s", "why")], MACHINE)
    table.keep([Row("a", 1.0, 4.0, 0.25, 1, (0.25, 0.25), "s", "at most 0.5")], MACHINE)
    found = {row["name"]: row for row in json.loads(table.RESULTS.read_text())}
    assert list(found) == ["b", "a"]
    assert found["a"]["ratio"] == 0.25 and found["a"]["met"] and found["a"]["machine"] == MACHINE
    assert found["b"]["note"] == "skipped: why"
    assert table.markdown().splitlines()[-1] == "| a | 1 | 4 | s | 0.25 (0.25 .. 0.25, 1) | at most 0.5 (met) |  |"
    table.show([first, skipped("b", "s", "why")], MACHINE)


def test_curves_are_drawn_as_one_picture() -> None:
    picture = ET.fromstring(svg([Curve("a < b", "prompts", {1: 2.0, 4: 8.0}), Curve("c", "votes", {2: 0.0})]))
    assert {"a < b", "c", "prompts", "votes"} <= {text.text for text in picture.iter() if text.tag.endswith("text")}
    points = [mark for mark in picture.iter() if mark.get("aria-roledescription") == "point"]
    assert [point.get("aria-label") for point in points] == [
        "prompts: 1; seconds: 2", "prompts: 4; seconds: 8", "votes: 2; seconds: 0"
    ]  # fmt: skip
    # Both axes begin at 0: four times as far right is four times as far up from the bottom, which is at 150.
    (left, low), (right, high) = (
        map(float, re.findall(r"[\d.]+", str(point.get("transform")))) for point in points[:2]
    )
    assert right == pytest.approx(4 * left) and 150 - high == pytest.approx(4 * (150 - low))


def test_an_unknown_subject_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert __main__.main(["--only", "speed", "--work", str(tmp_path)]) == 2
    assert (
        "known: generation, fixed_batches, judging, dpo, dpo_bfloat16, round, store, growth" in capsys.readouterr().err
    )
