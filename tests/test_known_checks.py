"""What one start found out, another run's start is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign import known_checks
from selfalign.workspace import Workspace


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "preflight"


def workspace(folder: Path) -> Workspace:
    made = Workspace(folder)
    made.create()
    return made


def test_the_same_question_is_answered_in_the_workspace_and_elsewhere(cache: Path, tmp_path: Path) -> None:
    one, other = workspace(tmp_path / "one"), workspace(tmp_path / "other")
    assert known_checks.recall(one, "ab") is None
    known_checks.remember(one, "ab", {"tokens": 3})
    for place in (one, other):
        found = known_checks.recall(place, "ab")
        assert found is not None and found["tokens"] == 3
        assert known_checks.recall(place, "cd") is None
    (cache / "ab.json").write_text("{")
    assert known_checks.recall(other, "ab") is None
    assert known_checks.recall(one, "ab") is not None


def test_a_renamed_answer_is_to_no_other_question(cache: Path, tmp_path: Path) -> None:
    known_checks.remember(workspace(tmp_path / "one"), "ab", {"tokens": 3})
    (cache / "ab.json").rename(cache / "cd.json")
    assert known_checks.recall(workspace(tmp_path / "other"), "cd") is None


def test_the_oldest_go_and_other_files_stay(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_checks, "_MOST", 2)
    cache.mkdir(parents=True)
    (cache / "README").write_text("mine")
    for question in ("aa", "bb", "cc"):
        known_checks.remember(workspace(tmp_path / "one"), question, {})
    assert sorted(file.name for file in cache.iterdir()) == ["README", "bb.json", "cc.json"]


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "file"))
    one = workspace(tmp_path / "one")
    known_checks.remember(one, "ab", {"tokens": 3})
    found = known_checks.recall(one, "ab")
    assert found is not None and found["tokens"] == 3
