"""The first stages of a start, begun while Prefect is still coming up.

Prefect takes seconds to import, and its server many seconds to make its first database. A run's work needs
neither: truth for what is done is in the store. So a thread begins with the rounds that are left, and the flow,
once it is there, waits for the stage under way and goes on from there. Nothing here imports Prefect.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from selfalign.rounds import begin_round, end_round, held, rounds_left, run_round_stage, stages_of
from selfalign.stages.context import RunContext

_Place = tuple[int, str]
_BEGUN_WITHIN_S = 3.0


class HeadStart:
    """Works through the rounds that are left, up to round ``last``, until the flow asks for a stage.

    A context manager: an exception that leaves the block (Ctrl-C, most likely) ends the stage under way.
    """

    def __init__(self, context: RunContext, last: int) -> None:
        self._context = context
        self._last = last
        self._changed = threading.Condition()
        self._present: _Place | None = None
        self._over: set[_Place] = set()
        self._wanted = True
        self._failed: tuple[_Place | None, BaseException] | None = None
        # A daemon, so that an interpreter that has to end is not kept by it.
        self._thread = threading.Thread(target=self._work, name="head-start", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._context.stop.set()
        self._leave_off()
        self._thread.join()

    def let_begin(self) -> None:
        """Return once the first stage process is running, or after a moment.

        Python runs one thread at a time: an import of seconds in this one would hold up the other.
        """
        latest = time.monotonic() + _BEGUN_WITHIN_S
        while self._thread.is_alive() and not self._context.launcher.started and time.monotonic() < latest:
            time.sleep(0.01)

    @property
    def label(self) -> str:
        """The stage under way, as reporters call it; empty where none is."""
        with self._changed:
            return "round {} {}".format(*self._present) if self._present else ""

    def wait_for(self, round: int, name: str) -> None:
        """Return once the stage is over here or will not be begun here; no other stage is begun from now on.

        Raises:
            SelfAlignError: what the stage ended with here, once.
        """
        self._leave_off()
        with self._changed:
            self._changed.wait_for(lambda: (round, name) in self._over or self._present is None)
            if self._failed is None or self._failed[0] != (round, name):
                return
            (_, error), self._failed = self._failed, None
        raise error

    def _leave_off(self) -> None:
        with self._changed:
            self._wanted = False

    def _work(self) -> None:
        try:
            for round in rounds_left(self._context):
                if round > self._last or not self._finish(round):
                    return
        except BaseException as error:  # told to whoever waits for the stage
            with self._changed:
                self._failed = (self._present, error)
        finally:
            with self._changed:
                self._present = None
                self._changed.notify_all()

    def _finish(self, round: int) -> bool:
        """Make a round; False where it was left before its end."""
        context = self._context
        stages = stages_of(round, context.config)
        for name in stages:
            why = held(context, round)
            with self._changed:
                if why or not self._wanted:
                    return False
                self._present = (round, name)
            if name == stages[0]:
                begin_round(context, round)
            run_round_stage(context, round, name)
            if name == stages[-1]:
                end_round(context, round)  # before the stage counts as over: the flow ends the round, too
            with self._changed:
                self._over.add((round, name))
                self._changed.notify_all()
        return True
