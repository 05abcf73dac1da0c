"""A stage process: ``python -m selfalign.stages.worker JOBDIR``, or forked (launch.py).

It exists so that a model's memory is given back when the stage ends: by the process's exit, the
only way that always works.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from selfalign.errors import DiskFull, SelfAlignError
from selfalign.space import EXIT_DISK_FULL, disk_full, is_disk_full
from selfalign.stages.jobs import JobFolder

#: Job kind -> the function that does the work.
WORK = {
    "generate": "selfalign.stages.generate:work",
    "judge": "selfalign.stages.judge:work",
    "meta_judge": "selfalign.stages.meta_judge:work",
    "calibrate": "selfalign.stages.calibrate:work",
    "train": "selfalign.stages.train:work",
    "log_ratio": "selfalign.stages.log_ratio:work",
    "held_out_judge": "selfalign.stages.held_out_judge:work",
    "capability": "selfalign.stages.capability:work",
}


def _die_with(parent: int) -> None:
    """End this process when the run is gone, even by kill -9; polled, as it must also work off Linux."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(3)


def _told(folder: JobFolder, error: BaseException) -> int:
    """Write down why the stage stopped; returns the exit code, which has to do where even that finds no room."""
    full = is_disk_full(error)
    try:
        folder.fail(disk_full(folder.path) if full and not isinstance(error, DiskFull) else error)
    except OSError as unwritten:
        return EXIT_DISK_FULL if full or is_disk_full(unwritten) else 1
    return 1


def run_job(path: str) -> int:
    """Do the job in the folder ``path``; returns the process's exit code."""
    folder = JobFolder(Path(path))
    parent = int(os.environ.get("SELFALIGN_PARENT", os.getppid()))
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec = folder.spec()
    module, _, name = WORK[spec["kind"]].partition(":")
    try:
        work: Callable[[JobFolder], None] = getattr(importlib.import_module(module), name)
        work(folder)
    except BaseException as error:
        if not isinstance(error, SelfAlignError):
            logging.exception("the stage stopped")
        return _told(folder, error)
    return 0


if __name__ == "__main__":
    sys.exit(run_job(sys.argv[1]))
