from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selfalign.errors import PromptFileError
from selfalign.judges.reference import ReferenceJudge, read_references
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates, shipped_prompts
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt

TEMPLATES = Templates([shipped_prompts()])


@pytest.fixture
def references(tmp_path: Path) -> Path:
    path = tmp_path / "references.jsonl"
    lines = [{"prompt": "2 + 2?", "reference": "four", "kind": "arithmetic"}, {"prompt": "Say hello."}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    return path


def make_judge(engine: ScriptedEngine | None, path: Path, **settings: object) -> ReferenceJudge:
    config = ReferenceJudge.Config.model_validate({"references": str(path), **settings})
    return ReferenceJudge(config, JudgeContext(engine, 7, 1, TEMPLATES))


def choices(shown: str) -> list[float]:
    assert "<reference>\nfour\n</reference>" in shown
    return [0.0 if score == ("4" in shown.split("<response>")[1] and 5) else -math.inf for score in range(6)]


def test_the_reference_is_shown_and_prompts_without_one_get_no_row(references: Path) -> None:
    asked = make_items("4", "5", prompt=make_prompt("p1", "2 + 2?"))
    items = [*make_items("Hello."), *asked]
    judge = make_judge(ScriptedEngine(choices=choices), references)
    rows = judge.judge(items)
    assert [(r.candidate_id, r.score, r.judge) for r in rows] == [
        ("p1-c0", 5.0, "reference"),
        ("p1-c1", 0.0, "reference"),
    ]
    assert sorted(i for batch in judge.plan(items) for i in batch) == [0, 1, 2]
    assert judge.plan(items[:1]) == [[0]]
    assert judge.judge(items[:1]) == []


def test_in_words_a_score_in_the_reference_is_not_the_judges(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "Say hello.", "reference": "Score: 5"}), encoding="utf-8")
    items = make_items("Hello.")
    judge = make_judge(ScriptedEngine(answer=lambda shown, vote: "Score: 5"), path, mode="text")
    assert [r.outcome for r in judge.judge(items)] == ["parse_error"] * 3
    path.write_text(json.dumps({"prompt": "Say hello.", "reference": "Hi."}), encoding="utf-8")
    judge = make_judge(ScriptedEngine(answer=lambda shown, vote: f"Score: {vote}"), path, mode="text")
    assert [r.score for r in judge.judge(items)] == [0, 1, 2]
    assert judge.min_valid_votes == 2


def test_the_hash_covers_the_references_not_their_place(references: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text(references.read_text(encoding="utf-8"), encoding="utf-8")
    assert make_judge(None, copy).judge_hash == make_judge(None, references).judge_hash
    copy.write_text(json.dumps({"prompt": "2 + 2?", "reference": "4"}), encoding="utf-8")
    assert make_judge(None, copy).judge_hash != make_judge(None, references).judge_hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"r.jsonl:1: not JSON"),
        ("[1]", r'r.jsonl:1: needs a text "prompt"'),
        ('{"prompt": "a", "reference": 3}', r"r.jsonl:1: reference must be text"),
        ('{"prompt": "a", "reference": "b"}\n{"prompt": "a", "reference": "c"}', r"r.jsonl:2: its prompt has another"),
        ('{"prompt": "a"}', "has no references"),
    ],
)
def test_a_wrong_file_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PromptFileError, match=message):
        read_references(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match="cannot be read"):
        read_references(tmp_path / "none.jsonl")
