"""The helper of launch.py: imports the heavy libraries once and forks stages from itself.

It never loads a model, runs no tensor operation and starts no thread, so that a fork is a clean start.
It ends when its standard input does, that is with the run, however the run ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
from collections import deque
from functools import cache
from typing import Any

#: What every stage needs; a request names the rest (loads.py).
_ALWAYS = ("numpy", "pyarrow", "torch", "selfalign.stages.worker")
_PR_SET_PDEATHSIG = 1


def prepare() -> None:
    """Before anything is imported."""
    for variable, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("DO_NOT_TRACK", "1")):
        os.environ[variable] = value
    # Next to nothing here becomes garbage. To look for it in all that is imported takes a second, and in a stage it
    # would write to every page that is shared with us: what is there before a fork is therefore frozen.
    gc.disable()


def main() -> None:
    prepare()
    requests, ended = sys.stdin.fileno(), _told_of_ends()
    pending, children, unread = deque(_ALWAYS), set[int](), b""
    while True:
        # One import at a time, so that whoever asks for a stage does not wait for what others need.
        ready = select.select([requests, ended], [], [], 0.0 if pending else None)[0]
        if requests in ready:
            data = os.read(requests, 1 << 16)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            for request in map(json.loads, lines):
                if "job" in request:
                    children.add(_fork(request))
                else:
                    pending.extend(request["load"])
        elif pending:
            _load(pending.popleft())
        if ended in ready:
            os.read(ended, 1 << 16)
            _report_ends(children)


def _told_of_ends() -> int:
    """A file descriptor that can be read from once a child has ended."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return told


@cache  # once each, also where it cannot be imported
def _load(name: str) -> None:
    with contextlib.suppress(Exception):  # the stage that needs it will say what is wrong
        importlib.import_module(name)
        if name.startswith("transformers.models."):
            # Hundreds of patterns, for checkpoints of any architecture, that loading a model compiles first of all.
            importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("")


def _fork(request: dict[str, Any]) -> int:
    for name in (*_ALWAYS, *request["load"]):
        _load(name)
    gc.freeze()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_stage(request, parent)
    _say({"pid": pid})
    return pid


def _be_stage(request: dict[str, Any], parent: int) -> None:
    code = 1
    try:
        gc.enable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)  # also closes our copies of the helper's pipes
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(request["environment"], SELFALIGN_PARENT=str(parent))
        from selfalign.stages.worker import run_job

        code = run_job(request["job"])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _report_ends(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _say({"exited": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
