"""How far a stage process has come, told to its job's folder for people to see."""

from __future__ import annotations

import time

from selfalign.stages.jobs import JobFolder, Progress

LOADING = "loading the model"
#: Seconds between two times that tokens are told of.
_EVERY_S = 1.0


class Meter:
    """Counts units, and the tokens that are sampled on the way to them: a batch of a large model takes minutes.

    ``loads``: a model is loaded first; :meth:`begin` says when that is done. ``samples``: a unit is what the engine
    calls a sample, and those that have ended count before their batch is done.
    """

    def __init__(self, folder: JobFolder, total: int, unit: str, *, loads: bool = True, samples: bool = False) -> None:
        self._folder, self._total, self._unit, self._samples = folder, total, unit, samples
        self._made = self._before = self._ended = 0
        self._tokens = self._on_the_way = 0
        self._began, self._told, self._at = time.monotonic(), 0.0, time.time()
        self._tell(LOADING if loads else "")

    def begin(self) -> None:
        """Tokens a second are counted from here."""
        self._began = time.monotonic()
        self._tell(self._rate())

    def sampled(self, tokens: int, ended: int = 0) -> None:
        """So many tokens more, and samples that have ended, of a batch that is not done."""
        self._on_the_way += tokens
        if ended and self._samples:
            self._ended, self._at = self._ended + ended, time.time()
        if time.monotonic() - self._told > _EVERY_S:
            self._tell(self._rate())

    def had(self, units: int) -> None:
        """Units that an earlier process made."""
        self._before += units
        self._tell(self._rate())

    def made(self, units: int, tokens: int = 0) -> None:
        """Units that are done now; ``tokens`` they have, where the engine has not said so meanwhile."""
        self._made += units
        self._tokens += self._on_the_way or tokens
        self._on_the_way, self._ended, self._at = 0, 0, time.time()
        self._tell(self._rate())

    def _rate(self) -> str:
        tokens = self._tokens + self._on_the_way
        return f"{tokens / max(time.monotonic() - self._began, 1e-9):.0f} tokens/s" if tokens else ""

    def _tell(self, note: str) -> None:
        self._told = time.monotonic()
        # Where memory was short a sample may have ended twice.
        done = min(self._before + self._made + self._ended, self._total)
        self._folder.report(Progress(done, self._total, self._unit, note, self._before, self._at))
