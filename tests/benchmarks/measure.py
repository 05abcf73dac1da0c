"""Two sides that do the same work, each in processes of its own, turn by turn: the ratio of their rates.

A side is a function ``module:name`` of this package that takes the settings it is given and returns a
:class:`Measure`. It prepares, then times only the work that the benchmark is about. Every turn is a new process
(run_side.py), so that no side profits from the other's warm memory and its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: The line of a side's output that is its result.
RESULT = "benchmark-result: "
#: Longest that one turn may take.
_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Measure:
    """One turn: ``units`` of work in ``seconds`` of the clock, and of the processor where the side is one process.

    ``check`` holds what both sides must agree on, such as losses.
    """

    units: float
    seconds: float
    check: Mapping[str, Any] = field(default_factory=dict)
    memory_mib: float = 0.0
    cpu_seconds: float | None = None

    @property
    def rate(self) -> float:
        return self.units / self.seconds


class Stopwatch:
    """Runs from its creation until :meth:`stop`."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._started[0]
        self.cpu_seconds = time.process_time() - self._started[1]

    def measure(self, units: float, check: Mapping[str, Any] | None = None) -> Measure:
        """``units`` of work in the time that was taken."""
        return Measure(units, self.seconds, check or {}, cpu_seconds=self.cpu_seconds)


@dataclass(frozen=True)
class Side:
    """``python`` is another environment's interpreter, where a peer needs one."""

    label: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ours`` and ``peer`` are medians in ``unit``, ``ratio`` the median of the pairs' ratios.

    ``spread`` is the lowest and the highest of these ratios, ``memory`` each side's peak in MiB. ``goal`` says what the
    ratio has to be: "at least 3", "at most 0.6"; empty where there is no goal. ``cpu_ratio`` is the median ratio of the
    processor's seconds, peer's to ours: on a machine that does other work meanwhile, and with one thread, the better figure.
    """

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    runs: int
    spread: tuple[float, float] | None
    unit: str
    goal: str = ""
    memory: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    cpu_ratio: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none, or nothing was measured."""
        if not self.goal or self.ratio is None:
            return None
        words, bound = self.goal.rsplit(" ", 1)
        return self.ratio >= float(bound) if words == "at least" else self.ratio <= float(bound)


class SideFailed(Exception):
    """A side ended without a result; the message is the end of what it said."""


def turn(side: Side) -> Measure:
    """Run one side once, in a new process.

    Raises:
        SideFailed: it did not come to its end.
    """
    command = [side.python, "-m", "tests.benchmarks.run_side", side.function, json.dumps(dict(side.settings))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(RESULT):
            return Measure(**json.loads(line.removeprefix(RESULT)))
    last = " | ".join((done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-3:])
    raise SideFailed(f"{side.label}: ended with {done.returncode}: {last}")


def paired(sides: Sequence[Side], runs: int) -> list[list[Measure]]:
    """``runs`` turns of each side, by turns (ABAB, or ABCABC); one list a side."""
    found: list[list[Measure]] = [[] for _ in sides]
    for run in range(runs):
        for side, measures in zip(sides, found, strict=True):
            measures.append(turn(side))
            print(f"  {run + 1}/{runs} {side.label}: {measures[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def ratios(
    name: str,
    ours: Sequence[Measure],
    peer: Sequence[Measure],
    unit: str,
    goal: str = "",
    note: str = "",
    by: Callable[[Measure], float] = lambda measure: measure.rate,
) -> Row:
    """The line of two sides' turns. ``by`` is what is compared: by default the rate."""
    left, right = [by(m) for m in ours], [by(m) for m in peer]
    each = [a / b for a, b in zip(left, right, strict=True)]
    worked = [b.cpu_seconds / a.cpu_seconds for a, b in zip(ours, peer, strict=True) if a.cpu_seconds and b.cpu_seconds]
    return Row(
        name, statistics.median(left), statistics.median(right), statistics.median(each), len(each),
        (min(each), max(each)), unit, goal, {"ours": _peak(ours), "peer": _peak(peer)}, note,
        statistics.median(worked) if worked else None,
    )  # fmt: skip


def skipped(name: str, unit: str, reason: str, goal: str = "") -> Row:
    return Row(name, None, None, None, 0, None, unit, goal, note=f"skipped: {reason}")


def _peak(measures: Sequence[Measure]) -> float:
    return statistics.median([m.memory_mib for m in measures])
