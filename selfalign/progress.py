"""What a person sees while a run works: bars with an ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from selfalign.stages.jobs import Progress

#: Seconds between two plain lines of one stage.
_LINE_EVERY_S = 20.0


class Reporter(Protocol):
    """Told by the stages, shows or forgets."""

    def start(self, label: str, total: int | None = None, unit: str = "") -> None:
        """A stage begins."""
        ...

    def update(self, progress: Progress) -> None:
        """It has come so far."""
        ...

    def finish(self, summary: str) -> None:
        """It is done; ``summary`` is what it made."""
        ...

    def note(self, message: str) -> None:
        """Something worth knowing, in one line."""
        ...


class Silent(Reporter):
    """Forgets everything: for tests and notebooks."""

    def start(self, label: str, total: int | None = None, unit: str = "") -> None: ...
    def update(self, progress: Progress) -> None: ...
    def finish(self, summary: str) -> None: ...
    def note(self, message: str) -> None: ...


class ConsoleReporter(Reporter):
    """Rich bars where there is a terminal; otherwise a line at start, now and then, and at the end."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bars: Bars | None = None
        self._label = ""
        self._started = 0.0
        self._last_line = 0.0
        #: By the clock that stage processes share.
        self._began = 0.0

    def start(self, label: str, total: int | None = None, unit: str = "") -> None:
        self.close()  # a stage that is tried again did not finish
        self._label, self._began = label, time.time()
        self._started = self._last_line = time.monotonic()
        if not self.console.is_terminal:
            self._line(f"{label} ...")
            return
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._bars.add_task(label, total=total, speed="loading the model" if total is None else "")
        self._bars.start()

    def update(self, progress: Progress) -> None:
        if self._bars:
            self._bars.update(
                self._bars.task_ids[0], completed=progress.done, total=progress.total or None,
                speed=f"{progress.unit} {progress.note}",
            )  # fmt: skip
        elif time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            left = progress.seconds_left(self._began, time.time())
            parts = [*progress.told, *([] if left is None else [f"about {left:.0f} s left"])]
            self._line(f"{self._label}: {', '.join(parts)}")

    def finish(self, summary: str) -> None:
        if self._bars:
            self._bars.stop()
            self._bars = None
        self._line(f"{self._label}: {summary} ({time.monotonic() - self._started:.0f} s)")

    def note(self, message: str) -> None:
        self._line(message)

    def _line(self, text: str) -> None:
        # Unwrapped, and without markup: a log is searched by line, and a path may hold brackets.
        self.console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Give the terminal back, also after an error in the middle of a stage."""
        if self._bars:
            self._bars.stop()
            self._bars = None
