"""Keeps a run's report up to date, in a process of its own: neither its time nor its failure is the run's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from types import TracebackType

from selfalign.stages.context import RunContext

#: Seconds that a run waits at its end for its report to be written.
_PATIENCE_S = 20.0
_POLL_S = 0.05


class Reports:
    """Writes report.html into the workspace whenever :meth:`update` is called, one after another.

    As a context manager it waits a moment at the end for the last one. Where the block ends in an error that is not one
    of haste (an interrupt, a signal), the report is written once more: a gate that stopped the run is worth reading of.
    """

    def __init__(self, context: RunContext) -> None:
        self._reporter = context.reporter
        self._enabled = context.config.execution.report
        self._workspace = context.workspace
        self._log = context.workspace.logs / "report.log"
        self._process: subprocess.Popen[bytes] | None = None
        #: Asked for while one was being written.
        self._again = False
        self.path = context.workspace.report

    def __enter__(self) -> Reports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return
        if kind is not None:
            self.update()
        self._finish(time.monotonic() + _PATIENCE_S)

    def update(self) -> None:
        """Write the report anew, as the store is now; returns at once."""
        if not self._enabled:
            return
        if self._process is not None and self._process.poll() is None:
            self._again = True
            return
        self._say_what_went_wrong()
        self._again = False
        # The stages have the machine first.
        gently = [nice, "-n", "10"] if (nice := shutil.which("nice")) else []
        command = [*gently, sys.executable, "-m", "selfalign", "report", str(self._workspace.path)]
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
                )
        except OSError as error:
            self._reporter.note(f"the report was not written: {error}")

    def _finish(self, deadline: float) -> None:
        while self._process is not None:
            while self._process.poll() is None:
                if time.monotonic() > deadline:
                    self._reporter.note(f"{self.path} is still being written")
                    return
                time.sleep(_POLL_S)
            self._say_what_went_wrong()
            if self._again:
                self.update()

    def _say_what_went_wrong(self) -> None:
        """Of the last report, once it has ended."""
        if self._process is not None and self._process.returncode:
            try:
                lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            except OSError:
                lines = []
            why = lines[-1] if lines else f"exit code {self._process.returncode}"
            self._reporter.note(f"the report was not written ({why}); the run goes on without it")
        self._process = None
