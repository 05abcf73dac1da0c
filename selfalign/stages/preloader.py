"""The helper of launch.py: imports the heavy libraries once and forks stages from itself.

It never loads a model, runs no tensor operation and starts no thread, so that a fork is a clean start.
It ends when its standard input does, that is with the run, however the run ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
from typing import Any

#: In order of need; the second group waits until the first stage is under way.
_FIRST = (
    "numpy", "pyarrow", "torch", "selfalign.engines.transformers_engine", "selfalign.stages.worker",
    "selfalign.stages.generate",
)  # fmt: skip
_THEN = (
    "transformers.models.llama.modeling_llama", "transformers.models.llama.tokenization_llama",
    "selfalign.stages.judge", "selfalign.judges.verifier", "selfalign.judges.rubric_logits", "if_verifiable.ifeval",
    "selfalign.stages.train", "selfalign.training.pairwise_run", "selfalign.training.sft_run", "selfalign.stages.log_ratio",
)  # fmt: skip
_PR_SET_PDEATHSIG = 1


def main() -> None:
    for variable, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("DO_NOT_TRACK", "1")):
        os.environ[variable] = value
    pending = [*_FIRST]
    later = [*_THEN]
    children: set[int] = set()
    unread = b""
    while True:
        # One import at a time, so that a request that comes meanwhile waits for one module at most.
        if pending:
            _load(pending.pop(0))
            continue
        idle = 0.0 if later else 0.05
        if select.select([sys.stdin.fileno()], [], [], idle)[0]:
            data = os.read(sys.stdin.fileno(), 1 << 16)
            if not data:
                return
            unread += data
            *lines, unread = unread.split(b"\n")
            for line in lines:
                children.add(_fork(json.loads(line)))
        elif later:
            _load(later.pop(0))
        _report_ends(children)


def _load(name: str) -> None:
    with contextlib.suppress(Exception):  # the stage that needs it will say what is wrong
        importlib.import_module(name)


def _fork(request: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_stage(request, parent)
    _say({"pid": pid})
    return pid


def _be_stage(request: dict[str, Any], parent: int) -> None:
    code = 1
    try:
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
