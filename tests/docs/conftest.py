"""One finished run that has something to answer for every query of the docs, and a second one beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project
from tests.tiny_model import make_tiny_model

_THINGS = ("a river", "the moon", "old bread", "seven cats", "my left shoe", "the sea", "winter", "a red door")


_NO_COMMA = ("punctuation:no_comma", {})
#: A random model's text has this many words about half of the time.
_WORDS = ("length_constraints:number_words", {"num_words": 5, "relation": "at least"})


@pytest.fixture(scope="session", autouse=True)
def _warm(warm_preloader: None) -> None:
    """For all whole runs."""


def _prompts(text: str, language: str, category: str, *rules: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "text": text.format(thing), "language": language, "category": category,
            "instruction_id_list": [name for name, _ in rules], "kwargs": [arguments for _, arguments in rules],
        }
        for thing in _THINGS
    ]  # fmt: skip


def _write(path: Path, prompts: Sequence[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(prompt) for prompt in prompts), encoding="utf-8")


def make_run(folder: Path, model: Path) -> Project:
    """Two rounds in runs/quickstart. One judge is right, one guesses, and one cannot be understood."""
    project = Project(folder, model, None)
    folder.mkdir(parents=True)
    train = [
        *_prompts("Tell me all about {}, without commas.", "en", "story", _NO_COMMA),
        *_prompts("Schreibe lang von {}.", "de", "letter", _WORDS, _NO_COMMA),
    ]
    held_out = [
        *_prompts("Five words or more on {} are wanted in your report.", "en", "report", _WORDS),
        *_prompts("Ein Brief an {}: kein Komma, mindestens fünf Worte.", "de", "letter", _WORDS, _NO_COMMA),
    ]
    _write(folder / "train.jsonl", train)
    _write(folder / "held.jsonl", held_out)
    project.write(
        name="quickstart",
        prompts={
            "per_round": 8,
            "sources": [{"id": "jsonl", "path": "train.jsonl"}],
            "held_out": [{"id": "jsonl", "path": "held.jsonl"}],
        },
        judge={
            "id": "weighted",
            "require_all": False,
            "members": [
                {"id": "verifier", "weight": 1.0},
                {"id": "rubric_logits", "weight": 0.5},
                {
                    "id": "rubric_votes",
                    "rubric": "judges/additive_short",
                    "weight": 0.25,
                    "votes": 1,
                    "min_valid_votes": 1,
                    "max_tokens": 4,
                },
            ],
        },
        pair={"id": "max_min", "min_margin": 0.2},
        evaluate={"temperature": 1.0, "log_ratio": False},
        # One rule that always fails, one that may, one that has no figure in round 0, and one that never has.
        gates=[
            {"id": "figure", "metric": "pass_rate_strict", "min": 2},
            {"id": "judge_accuracy", "action": "continue"},
            {"id": "yield"},
            {"id": "saturation", "rounds": 9, "action": "continue"},
        ],
        calibrate={"enabled": "always", "items": 4},
        train={"id": "dpo", "learning_rate": 3e-3, "batch_size": 2, "micro_batch_size": 2, "epochs": 2},
    )
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    shutil.copytree(folder / "runs" / "quickstart", folder / "runs" / "other")
    return project


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with the finished runs ``runs/quickstart`` and ``runs/other``; treat it as read-only."""
    folder = tmp_path_factory.mktemp("docs")
    # Room for a rubric with prompt and answer in it: one token is one byte here.
    return make_run(folder / "project", make_tiny_model(folder / "model", context=2048))
