from __future__ import annotations

from selfalign.judges.tamper import TamperCase, detect

CASES = [
    TamperCase("number", "c1", "t1"),
    TamperCase("number", "c2", "t2"),
    TamperCase("cut", "c1", "t3"),
    TamperCase("cut", "c3", "t4"),
    TamperCase("reworded", "c1", "h1", harmless=True),
    TamperCase("reworded", "c2", "h2", harmless=True),
]
SCORES = {"c1": 5.0, "c2": 2.0, "c3": None, "t1": 1.0, "t2": 2.0, "t3": 5.5, "t4": 0.0, "h1": 4.0, "h2": 2.0}


def test_recall_and_false_alarms_by_kind() -> None:
    found = detect(CASES, SCORES, threshold=2.5)
    assert sorted(found) == ["all", "cut", "harmless", "number"]
    number = found["number"]
    assert (number.found, number.missed, number.reversed, number.unscored) == (1, 1, 0, 0)
    assert (number.recall, number.flag_rate, number.false_alarms) == (0.5, 1.0, 0.5)
    cut = found["cut"]
    assert (cut.found, cut.reversed, cut.unscored, cut.n) == (0, 1, 1, 1)
    assert (cut.recall, cut.recall_of_all) == (0.0, 0.0)
    whole = found["all"]
    assert (whole.n, whole.recall, whole.recall_of_all) == (3, 1 / 3, 1 / 4)
    # c1 stands in two cases and counts once; c3 has no score.
    assert (whole.clean, whole.flagged_clean) == (2, 1)
    assert found["harmless"].recall == 0.5


def test_nothing_to_divide_by() -> None:
    nothing = detect([], {}, 0)["all"]
    assert (nothing.recall, nothing.recall_of_all, nothing.flag_rate, nothing.false_alarms) == (None,) * 4
