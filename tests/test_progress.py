"""What a person reads while a run works, where there is no terminal."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from selfalign import progress
from selfalign.progress import ConsoleReporter
from selfalign.stages.jobs import Progress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    return io.StringIO()


def test_plain_lines_say_what_is_waited_for_and_how_long(lines: io.StringIO) -> None:
    reporter = ConsoleReporter(Console(file=lines, highlight=False, width=40))
    reporter.start("round 1 generate")
    reporter.update(Progress(0, 320, "answers", "loading the model"))
    reporter.update(Progress(192, 320, "answers", "146 tokens/s", at=time.time() + 60))
    reporter.update(Progress(192, 320, "answers", before=192, at=time.time() + 60))
    reporter.update(Progress(0, 0, "steps", "loading the model"))
    reporter.finish("320 answers")
    assert lines.getvalue().splitlines() == [
        "round 1 generate ...",
        "round 1 generate: 0/320 answers, loading the model",
        "round 1 generate: 192/320 answers, 146 tokens/s, about 100 s left",
        "round 1 generate: 192/320 answers",
        "round 1 generate: loading the model",
        "round 1 generate: 320 answers (0 s)",
    ]


def test_a_bar_takes_the_same(lines: io.StringIO) -> None:
    reporter = ConsoleReporter(Console(file=lines, force_terminal=True, color_system=None, width=200, highlight=False))
    reporter.start("round 1 train")
    reporter.update(Progress(0, 0, "steps", "loading the model"))
    reporter.update(Progress(3, 5, "steps", "loss 1.315"))
    reporter.finish("M1")
    assert "round 1 train: M1" in lines.getvalue()
