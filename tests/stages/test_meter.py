"""What a stage process tells of how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.stages import meter
from selfalign.stages.jobs import JobFolder, Progress


class Clock:
    """Stands in for the module ``time``."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def told(folder: JobFolder) -> Progress:
    progress = folder.progress()
    assert progress is not None
    return progress


def test_a_model_that_loads_is_told_of_and_is_not_in_the_rate(tmp_path: Path, clock: Clock) -> None:
    folder = JobFolder(tmp_path)
    counts = meter.Meter(folder, 40, "answers")
    assert told(folder) == Progress(0, 40, "answers", "loading the model", 0, 1e9 + 1000)
    clock.now += 30
    counts.begin()
    assert told(folder).note == ""
    clock.now += 10
    counts.made(8, tokens=500)
    assert told(folder) == Progress(8, 40, "answers", "50 tokens/s", 0, 1e9 + 1040)


def test_tokens_of_a_batch_under_way_are_told_every_second(tmp_path: Path, clock: Clock) -> None:
    folder = JobFolder(tmp_path)
    counts = meter.Meter(folder, 40, "answers", loads=False)
    assert told(folder).note == ""
    notes = []
    for _ in range(6):
        clock.now += 0.5
        counts.sampled(30)
        notes.append(told(folder).note)
    assert notes == ["", "", "60 tokens/s", "60 tokens/s", "60 tokens/s", "60 tokens/s"]
    counts.made(4, tokens=7)
    assert told(folder) == Progress(4, 40, "answers", "60 tokens/s", 0, 1e9 + 1003), "the engine has said so already"


def test_samples_that_end_count_before_their_batch_is_done(tmp_path: Path, clock: Clock) -> None:
    folder = JobFolder(tmp_path)
    counts = meter.Meter(folder, 40, "answers", loads=False, samples=True)
    clock.now += 10
    counts.sampled(600, 10)
    assert told(folder) == Progress(10, 40, "answers", "60 tokens/s", 0, 1e9 + 1010)
    clock.now += 5
    counts.sampled(300)
    assert told(folder) == Progress(10, 40, "answers", "60 tokens/s", 0, 1e9 + 1010)
    counts.made(20)
    assert told(folder).done == 20
    others = meter.Meter(JobFolder(tmp_path), 40, "judgements", loads=False)
    clock.now += 10
    others.sampled(600, 10)
    assert told(folder).done == 0


def test_what_an_earlier_process_made_is_kept_apart(tmp_path: Path, clock: Clock) -> None:
    folder = JobFolder(tmp_path)
    counts = meter.Meter(folder, 40, "answers")
    counts.had(16)
    clock.now += 5
    counts.made(8)
    assert told(folder) == Progress(24, 40, "answers", "", 16, 1e9 + 1005)
