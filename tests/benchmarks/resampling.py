"""How long resampling takes: ``python -m tests.benchmarks.resampling [--prompts 1000] [--candidates 64]``.

Prints a JSON line a resampler: seconds from scored groups to rows, of one core (the least of three runs; ``wall`` is
what a clock says, on a machine that may do other work), and for scale those of algorithm 1 as a plain Python loop over
the same scores, which makes no rows. Exit code 1 if a resampler takes longer than 5 s for 1,000 prompts with 64
candidates, or as much for other numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from selfalign.registry import find
from selfalign.types import ScoredCandidate, ScoredGroup
from tests.judges.scripted import make_candidate, make_prompt

_RESAMPLERS = (
    {"id": "rso", "mode": "paper"}, {"id": "rso", "mode": "iid"}, {"id": "rso", "mode": "paper", "beta": 1e-3},
    {"id": "rso", "mode": "iid", "beta": 1e-3}, {"id": "top_k"}, {"id": "threshold"},
)  # fmt: skip
_LIMIT_S, _LIMIT_ROWS = 5.0, 64_000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=64)
    sizes = parser.parse_args(arguments)
    groups = make_groups(sizes.prompts, sizes.candidates)
    scores = [[c.score or 0.0 for c in group.candidates] for group in groups]
    rows = sizes.prompts * sizes.candidates
    loop, _ = least_of_three(lambda: [plain_loop(own, 8, 0.5, random.Random(0)) for own in scores])
    print(json.dumps({"id": "plain loop", "candidates": rows, "seconds": round(loop, 3)}))
    slowest = 0.0
    for settings in _RESAMPLERS:
        resampler = find("resample", settings["id"]).load()
        made = resampler(resampler.Config.model_validate(settings))
        seconds, wall = least_of_three(partial(made.resample, groups, 1, 0))
        slowest = max(slowest, seconds)
        print(json.dumps({**settings, "rows": rows, "seconds": round(seconds, 3), "wall": round(wall, 3)}))
    return int(slowest > _LIMIT_S * rows / _LIMIT_ROWS)


def make_groups(prompts: int, candidates: int) -> list[ScoredGroup]:
    """Normally distributed scores."""
    draw = random.Random(0)
    return [
        ScoredGroup(
            make_prompt(f"p{i}"),
            tuple(ScoredCandidate(make_candidate("text", j, f"p{i}"), draw.gauss(), 1, {}) for j in range(candidates)),
            "judge",
        )
        for i in range(prompts)
    ]


def plain_loop(scores: Sequence[float], n: int, beta: float, draw: random.Random) -> list[int]:
    """Algorithm 1 as a person would write it down."""
    left, accepted = dict(enumerate(scores)), list[int]()
    while left and len(accepted) < n:
        best = max(left.values())
        for i, score in list(left.items()):
            if len(accepted) < n and draw.random() < math.exp((score - best) / beta):
                accepted.append(i)
                del left[i]
    return accepted


def least_of_three(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of this process, and of the clock."""
    found = []
    for _ in range(3):
        started = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - started[0], time.perf_counter() - started[1]))
    return min(found)


if __name__ == "__main__":
    sys.exit(main())
