"""How long the report of a large run takes: ``python -m tests.benchmarks.report [--candidates 100000]``.

Makes the store of a finished round with that many candidates, judgements and a pair a prompt, then runs ``selfalign
report`` on it, and prints a JSON line: seconds of the whole command, of reading the store alone (for so long a run that is
at work would wait), and the page's size. Exit code 1 beyond 10 s or 5 MB for 100,000 candidates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from selfalign.report.reading import read_runs
from tests.checks.synthetic import SAMPLES, make_run

LIMIT_S, LIMIT_BYTES = 10.0, 5_000_000
#: Each answer is about as long as 160 tokens of prose.
_TEXT = "The river rises in the hills, runs past the mill, and meets the sea beyond the old harbour. " * 8


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100_000)
    candidates = parser.parse_args(arguments).candidates
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_run(Path(folder), candidates // SAMPLES, text=_TEXT)
        stored = workspace.store_path.stat().st_size
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "selfalign", "report", str(workspace.path)], check=True)
        seconds = time.perf_counter() - started
        size = (workspace.path / "report.html").stat().st_size
        started = time.perf_counter()
        read_runs([workspace], examples=4)
        reading = time.perf_counter() - started
    print(
        json.dumps(
            {"candidates": candidates, "store_mb": round(stored / 1e6), "seconds": round(seconds, 1),
             "reading_seconds": round(reading, 2), "page_mb": round(size / 1e6, 2)}
        )
    )  # fmt: skip
    return int(seconds > LIMIT_S * max(1.0, candidates / 100_000) or size > LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
