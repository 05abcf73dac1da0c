"""One finished run that has something to answer for every query of the docs, and a second one beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project

_THINGS = ("a river", "the moon", "old bread", "seven cats", "my left shoe", "the sea", "winter", "a red door")


def _prompts(english: str, german: str) -> Iterator[dict[str, Any]]:
    """Two kinds of constraint, languages and categories; some prompts carry both constraints."""
    letter = {"letter": "e", "let_frequency": 3, "let_relation": "at least"}
    for thing in _THINGS:
        yield {
            "text": english.format(thing), "language": "en", "category": "description",
            "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}],
        }  # fmt: skip
        yield {
            "text": german.format(thing), "language": "de", "category": "letters",
            "instruction_id_list": ["keywords:letter_frequency", "punctuation:no_comma"], "kwargs": [letter, {}],
        }  # fmt: skip


def _write(path: Path, prompts: Sequence[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(prompt) for prompt in prompts), encoding="utf-8")


def make_run(folder: Path, model: Path) -> Project:
    """Two rounds in runs/quickstart. One judge is right, one guesses, and one cannot be understood."""
    project = Project(folder, model, None)
    folder.mkdir(parents=True)
    _write(
        folder / "train.jsonl",
        list(_prompts("Tell me all about {}, without commas.", "Schreibe lang und mit e von {}.")),
    )
    _write(
        folder / "held.jsonl",
        list(
            _prompts(
                "No comma may stand in your report on {}.", "Ein Brief an {}: kein Komma, drei Mal der Buchstabe e."
            )
        ),
    )
    project.write(
        name="quickstart",
        judge={
            "id": "weighted",
            "require_all": False,
            "members": [
                {"id": "verifier", "weight": 1.0},
                {"id": "rubric_logits", "weight": 0.5},
                {"id": "rubric_votes", "weight": 0.25, "votes": 1, "min_valid_votes": 1, "max_tokens": 4},
            ],
        },
        train={"id": "dpo", "learning_rate": 3e-3, "batch_size": 2, "micro_batch_size": 2, "epochs": 2},
    )
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    shutil.copytree(folder / "runs" / "quickstart", folder / "runs" / "other")
    return project


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    """A folder with the finished runs ``runs/quickstart`` and ``runs/other``; treat it as read-only."""
    return make_run(tmp_path_factory.mktemp("docs") / "project", tiny_model)
