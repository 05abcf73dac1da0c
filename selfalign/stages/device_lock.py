"""One run at a time for a device: a file lock a GPU, freed by the kernel however its holder dies.

Prefect's own limits are leases: after a kill -9 a slot stays taken for five minutes.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from selfalign.progress import Reporter
from selfalign.stages.context import RunContext
from selfalign.stages.ledger import StageOutcome

_POLL_S = 0.5


def holding_device(context: RunContext, body: Callable[[], StageOutcome]) -> Callable[[], StageOutcome]:
    """``body``, run while this process alone holds the GPU of the run's ``device``; on a CPU just ``body``."""

    def run() -> StageOutcome:
        with device_lock(context.config.device, context.reporter):
            return body()

    return run


@contextlib.contextmanager
def device_lock(device: str, reporter: Reporter, folder: Path | None = None) -> Iterator[None]:
    """Hold ``device`` ("auto", "cpu", "cuda", "cuda:1"), waiting for whoever has it; a CPU is nobody's."""
    name = gpu_name(device, [] if device == "cpu" else visible_gpus())
    if name is None:
        yield
        return
    import fcntl

    folder = folder or lock_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{name}.lock").open("a+") as handle:
        told = False
        while not _taken(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not told:
                handle.seek(0)
                reporter.note(f"waiting for {name}, in use by {handle.read().strip() or 'another run'}")
                told = True
            time.sleep(_POLL_S)
        handle.truncate(0)
        handle.write(f"pid {os.getpid()}")
        handle.flush()
        yield


def gpu_name(device: str, gpus: list[str]) -> str | None:
    """What to call the GPU that ``device`` means among the visible ``gpus``; None for a CPU."""
    found = re.fullmatch(r"(auto|cuda)(?::(\d+))?", device)
    if not found or (found[1] == "auto" and not gpus):
        return None
    index = int(found[2] or 0)
    return gpus[index] if index < len(gpus) else f"gpu-{index}"


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of this process's GPUs, in its own order: by UUID where the driver tells, else by number.

    Asked of the driver, not of torch, which would take a second to load and memory on each device.
    """
    known = _driver_gpus()
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return known
    names = []
    for entry in filter(None, (part.strip() for part in chosen.split(","))):
        if entry == "-1":
            break  # CUDA stops reading here, too
        if entry.isdigit():
            names.append(known[int(entry)] if int(entry) < len(known) else f"gpu-{entry}")
        else:
            names.append(next((name for name in known if name.startswith(entry)), entry))
    return names


def _driver_gpus() -> list[str]:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU \d+:.*\(UUID: (GPU-[0-9a-fA-F-]+)\)", listed, re.MULTILINE)


def lock_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """A folder that all runs of this user on this machine share."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "selfalign" if runtime else Path.home() / ".cache" / "selfalign" / "locks"


def _taken(handle: TextIO, mode: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, mode)
    except OSError:
        return False
    return True
