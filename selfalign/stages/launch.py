"""Starting stage processes: forked from a process that has the libraries loaded, or from nothing.

Importing torch, transformers and TRL takes seconds on a small machine, for every stage of every round.
Where it is safe (Linux, no CUDA driver) one helper process imports them once, holds no model, and forks
each stage from itself. The stage is still a process of its own, and its memory is given back by its exit.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

#: "fork" or "spawn" overrides the choice.
START_VARIABLE = "SELFALIGN_STAGE_START"
_CUDA_DRIVER = Path("/proc/driver/nvidia/version")
_READY_WITHIN_S = 120.0


class StageProcess(Protocol):
    """A running stage, leader of its own process group."""

    pid: int

    def poll(self) -> int | None:
        """Exit code (negative: the signal that ended it), or None while it runs."""
        ...

    def kill(self) -> None:
        """End it and everything it started; returns once it is gone."""
        ...


class Launcher:
    """Starts the stage processes of one run. Close it when the run ends."""

    def __init__(self) -> None:
        #: Whether any stage has been started.
        self.started = False
        self._preloader: _Preloader | None = None
        self._fork = _may_fork()

    @property
    def forks(self) -> bool:
        """Whether stages are forked from a helper, on this machine and as far as known."""
        return self._fork

    def warm_up(self, modules: Sequence[str] = ()) -> int | None:
        """Begin to load ``modules`` (see loads.py) in the background; returns the helper's pid, if there is one."""
        if self._fork and self._preloader is None:
            self._preloader = _Preloader(modules)
        return self._preloader.pid if self._preloader else None

    def start(self, job: Path, log: Path, environment: Mapping[str, str], modules: Sequence[str] = ()) -> StageProcess:
        """Start the stage whose job folder is ``job``; its output is appended to ``log``.

        ``modules`` are what it will import.
        """
        self.started = True
        self.warm_up()
        if self._preloader is not None:
            try:
                return self._preloader.fork(job, log, environment, modules)
            except (OSError, ValueError):  # the helper is gone: start from nothing, now and from here on
                self._fork = False
                self.close()
        return _Spawned(job, log, environment)

    def close(self) -> None:
        if self._preloader is not None:
            self._preloader.close()
            self._preloader = None


def _may_fork() -> bool:
    chosen = os.environ.get(START_VARIABLE)
    if chosen in ("fork", "spawn"):
        return chosen == "fork"
    # A forked process cannot use CUDA once its parent has touched the driver; nobody here does, but a library may.
    return sys.platform == "linux" and not _CUDA_DRIVER.exists()


class _Spawned:
    """A stage in a new interpreter."""

    def __init__(self, job: Path, log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "selfalign.stages.worker", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        _kill_group(self.pid)
        self._process.wait()


class _Forked:
    """A stage forked by the helper, which also tells how it ended."""

    def __init__(self, preloader: _Preloader, pid: int) -> None:
        self._preloader = preloader
        self.pid = pid

    def poll(self) -> int | None:
        return self._preloader.exit_code(self.pid)

    def kill(self) -> None:
        _kill_group(self.pid)
        while self.poll() is None:
            time.sleep(0.02)


class _Preloader:
    """Our end of the helper process (preloader.py): one JSON object a line, both ways."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "selfalign.stages.preloader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._exits: dict[int, int] = {}
        self._unread = b""
        with contextlib.suppress(OSError):  # told by fork, if it is gone
            self._ask({"load": list(modules)})

    def fork(self, job: Path, log: Path, environment: Mapping[str, str], modules: Sequence[str]) -> _Forked:
        """Raises OSError where the helper is gone or does not answer."""
        place = {"job": str(job.resolve()), "log": str(log.resolve())}
        self._ask({**place, "environment": dict(environment), "load": list(modules)})
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            for message in self._messages(wait=0.2):
                if "pid" in message:
                    return _Forked(self, int(message["pid"]))
            if self._process.poll() is not None:
                break
        raise OSError("the preloading process is gone")

    def exit_code(self, pid: int) -> int | None:
        for _ in self._messages(wait=0.0):
            pass
        if pid not in self._exits and self._process.poll() is not None:
            return -signal.SIGKILL  # stages end with the helper
        return self._exits.get(pid)

    def close(self) -> None:
        # Killed, not asked: in the middle of an import it would not hear us, and nothing of it is to be kept.
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _messages(self, wait: float) -> list[dict[str, Any]]:
        """Complete lines that have come; exits are remembered on the way."""
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        while select.select([handle], [], [], wait)[0]:
            data = os.read(handle, 1 << 16)
            if not data:
                break
            self._unread += data
            wait = 0.0
        *lines, self._unread = self._unread.split(b"\n")
        found = [json.loads(line) for line in lines if line]
        for message in found:
            if "exited" in message:
                self._exits[int(message["exited"])] = int(message["code"])
        return found


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
