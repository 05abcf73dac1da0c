"""When the next request may go out: a rate that all threads share, and pauses that the server asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets requests through evenly, at most ``per_minute`` of them (None: no limit). Safe between threads.

    ``clock`` (seconds) and ``sleep`` are there for tests.
    """

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        """Return when it is this request's turn."""
        with self._lock:
            turn = max(self._next, self._clock())
            self._next = turn + self._interval
        while (left := turn - self._clock()) > 0:
            self._sleep(left)

    def hold(self, seconds: float) -> None:
        """Nobody who has not been given a turn yet goes out for ``seconds``."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
