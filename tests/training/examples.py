"""Small random examples and jobs for the trainers' tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from selfalign.protocols import TrainingJob
from selfalign.types import CompletionExample, LabelExample, PairExample, RankingExample


def tokens(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    """Printable ASCII in the tiny model's byte vocabulary, where text and ids correspond one to one."""
    return tuple(rng.randrange(40, 90) for _ in range(rng.randint(low, high)))


def pairs(n: int = 10, seed: int = 0, weight: float = 1.0) -> list[PairExample]:
    rng = random.Random(seed)
    return [
        PairExample(f"pair{i:02d}", tokens(rng, 3, 9), tokens(rng, 2, 12), tokens(rng, 2, 12), 1.0, weight)
        for i in range(n)
    ]


def completions(n: int = 10, seed: int = 0) -> list[CompletionExample]:
    return [CompletionExample(p.pair_id, p.prompt_ids, p.chosen_ids, p.weight) for p in pairs(n, seed)]


def job(folder: Path, parent: Path, reference: Path | None = None, **values: Any) -> TrainingJob:
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingJob(
        round=1, seed=7, parent=parent, reference=reference or parent, output=folder / "output",
        scratch=folder / "scratch", **values,
    )  # fmt: skip


def labels(n: int = 12, seed: int = 0, weight: float = 1.0) -> list[LabelExample]:
    """Every third one is wanted; each has a prompt of its own."""
    return [
        LabelExample(f"label{i:02d}", p.prompt_ids, p.chosen_ids, i % 3 == 0, weight)
        for i, p in enumerate(pairs(n, seed))
    ]


def rankings(n: int = 8, seed: int = 0, weight: float = 1.0) -> list[RankingExample]:
    """Of two to four completions, not always with the best first."""
    rng = random.Random(seed)
    found = []
    for i in range(n):
        size = rng.randint(2, 4)
        scores = tuple(rng.sample((0.0, 0.5, 1.0, 1.5, 2.0), size))
        completions = tuple(tokens(rng, 2, 12) for _ in range(size))
        found.append(RankingExample(f"ranking{i:02d}", tokens(rng, 3, 9), completions, scores, weight))
    return found
