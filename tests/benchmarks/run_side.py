"""One turn of one side: ``python -m tests.benchmarks.run_side module:function SETTINGS``; see measure.py."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from tests.benchmarks.measure import RESULT, Measure


def peak_memory_mib() -> float:
    """The most memory that this process has held (resident), in MiB; 0 where the system does not tell.

    Not getrusage: its figure is inherited from the parent.
    """
    try:
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            found = next((line.split() for line in lines if line.startswith("VmHWM")), None)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def main(function: str, settings: str) -> None:
    module, name = function.split(":")
    side = getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)
    measure: Measure = side(**json.loads(settings))
    if not measure.memory_mib:
        measure = replace(measure, memory_mib=peak_memory_mib())
    print(RESULT + json.dumps(asdict(measure)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
