from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.errors import GuardFailed, StageFailed
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.types import Evaluation, Event


def event(number: int) -> Event:
    return Event(f"id{number}", 1, "generate", "note", None, f"message {number} 你好", "{}")


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.prepare({"kind": "generate"}, {"events": [event(1), event(2)], "none": []})
    assert folder.spec() == {"kind": "generate"}
    assert folder.rows("events", Event) == [event(1), event(2)]
    assert folder.rows("none", Event) == []


def test_batches_come_in_order_and_whole(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.prepare({}, {})
    figure = Evaluation("run", 1, "m", "held_out", 0.5, None, None, 3, "{}")
    folder.emit(10, [event(10)])
    folder.emit(2, [event(2), figure])
    (folder.batches / ".000003.77").mkdir()  # what a kill leaves of a batch under way
    found = list(folder.collect())
    assert [path.name for path, _ in found] == ["000002", "000010"]
    assert {name: table.num_rows for name, table in found[0][1].items()} == {"events": 1, "evaluations": 1}


def test_an_error_keeps_its_class_and_becomes_one_line(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.prepare({}, {})
    assert folder.error() is None
    folder.fail(GuardFailed("loss 0.7,\n not ln 2"))
    assert isinstance(folder.error(), GuardFailed)
    assert str(folder.error()) == "loss 0.7, not ln 2"
    folder.fail(KeyError("x"))
    assert type(folder.error()) is StageFailed
    assert "KeyError" in str(folder.error())


def test_progress_is_whole_or_absent(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.prepare({}, {})
    assert folder.progress() is None
    folder.report(Progress(1, 2, "answers", "note", 1, 3.5))
    assert folder.progress() == Progress(1, 2, "answers", "note", 1, 3.5)
    (tmp_path / "progress.json").write_text("{")
    assert folder.progress() is None


def progress(done: int, at: float, before: int = 0, total: int = 100) -> Progress:
    return Progress(done, total, "steps", before=before, at=at)


def test_the_time_left() -> None:
    assert progress(25, 110.0).seconds_left(100.0, now=110.0) == pytest.approx(30.0)
    assert progress(25, 110.0).seconds_left(100.0, now=115.0) == pytest.approx(25.0), "it passes between two reports"
    assert progress(75, 110.0, before=50).seconds_left(100.0, now=110.0) == pytest.approx(10.0), "that was free"
    assert progress(50, 110.0, before=50).seconds_left(100.0, now=200.0) is None
    assert progress(0, 110.0, total=0).seconds_left(100.0, now=200.0) is None
    assert progress(100, 110.0).seconds_left(100.0, now=110.0) is None, "nothing is left"


moments = st.floats(0, 1e6, allow_nan=False)


@given(moments, st.integers(0, 50), moments, st.integers(0, 100), st.integers(0, 100), moments)
def test_the_time_left_is_never_negative(
    began: float, before: int, at: float, done: int, total: int, now: float
) -> None:
    left = progress(done, at, before, total).seconds_left(began, now)
    assert left is None or left >= 0
