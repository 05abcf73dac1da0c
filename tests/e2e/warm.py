"""A process that has imported what stages need, and forks preloaders from itself: ``python -m tests.e2e.warm SOCKET``.

To import torch, transformers and TRL takes 5 s of CPU, and the suite starts well over a hundred runs. See
preloaded/sitecustomize.py for the other end.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from selfalign.config import validate_config
from selfalign.stages import loads, preloader

#: Set in a run's environment: the socket. Empty: its preloader starts from nothing, as for a user.
VARIABLE = "SELFALIGN_TEST_WARM"
_FOLDER = Path(__file__).with_name("preloaded")


def environment() -> dict[str, str]:
    """What a run's environment needs beside :data:`VARIABLE`, where that is set, for its preloader to come from there."""
    if VARIABLE not in os.environ:
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(_FOLDER), *([known] if known else [])])}


@contextlib.contextmanager
def running(place: Path) -> Iterator[str]:
    """Such a process, until the block ends; gives ``place``, its socket."""
    # It ends when its standard input does, that is also where this process is killed.
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.warm", str(place)], cwd=_FOLDER.parents[2], stdin=subprocess.PIPE
    )
    try:
        while not place.exists():
            assert process.poll() is None, "it ended"
            time.sleep(0.05)
        yield str(place)
    finally:
        process.kill()
        process.communicate()


def main(place: str) -> None:
    preloader.prepare()
    for trainer in ("dpo", "sft"):
        config = validate_config({"name": "warm", "train": trainer, "model": place}, "warm")
        for name in (*preloader._ALWAYS, *loads.of_run(config)):
            preloader._load(name)
    gc.freeze()
    assert threading.active_count() == 1, "a fork would not be a clean start"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        aside = f"{place}.new"
        listening.bind(aside)
        listening.listen(16)
        Path(aside).rename(place)
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            asked, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _become(asked)
            asked.close()


def _become(asked: socket.socket) -> None:
    try:
        size, handles, _, _ = socket.recv_fds(asked, 4, 2)
        data = b""
        while len(data) < int.from_bytes(size, "big"):
            data += asked.recv(1 << 16)
        about = json.loads(data)
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(about["folder"])
        os.environ.clear()
        os.environ.update(about["environment"])
        for standard, handle in enumerate(handles):
            os.dup2(handle, standard)
            os.close(handle)
        preloader.main()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
