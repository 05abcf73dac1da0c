"""How time grows with prompts, candidates, votes, length and rounds: one figure a point, ours alone.

A round's stages are measured by what they call: the engine, the judge, the trainer, the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import Measure, Side, turn


@dataclass(frozen=True)
class Curve:
    """Seconds by size of one thing."""

    name: str
    x: str
    points: Mapping[int, float]


def curves(work: Path) -> list[Curve]:
    """Every curve, measured now; a turn a point."""
    w = str(work)
    return [
        _curve("sampling", "prompts", (8, 16, 32, 64), lambda n: Side("", "generation:ours", {"engine": "transformers", "prompts": n})),
        _curve("sampling", "candidates a prompt", (1, 2, 4, 8, 16), lambda n: Side("", "generation:ours", {"engine": "transformers", "prompts": 8, "samples": n})),
        _curve("sampling", "longest answer (tokens)", (32, 64, 128, 256), lambda n: Side("", "generation:ours", {"engine": "transformers", "prompts": 8, "max_tokens": n})),
        _curve("judging by logits", "candidates", (24, 48, 96, 192), lambda n: Side("", "judging:ours", {"work": w, "rubric": "judges/additive_short", "count": n})),
        _curve("judging by votes", "votes a candidate", (1, 2, 4), lambda n: Side("", "judging:votes", {"work": w, "count": 16, "votes": n})),
        _curve("training", "pairs", (8, 16, 32, 64), lambda n: Side("", "dpo:ours", {"work": w, "pairs": n})),
        _curve("round_summary", "rounds of 10,000 candidates", (1, 2, 5, 10, 20), lambda n: Side("", "store:summary_by_rounds", {"rounds": n})),
    ]  # fmt: skip


def _curve(name: str, x: str, sizes: tuple[int, ...], side: Callable[[int], Side]) -> Curve:
    found: dict[int, Measure] = {size: turn(side(size)) for size in sizes}
    return Curve(name, x, {size: measure.seconds for size, measure in found.items()})
