from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import PromptFileError
from selfalign.judges.critique import CritiqueJudge
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import FinishReason
from tests.judges.scripted import ScriptedEngine, make_items

TEMPLATES = Templates([shipped_prompts()])
FOUND = '- "5" is wrong\n- it is cut off'


def make_judge(engine: Engine | None, **settings: object) -> CritiqueJudge:
    return CritiqueJudge(CritiqueJudge.Config.model_validate(settings), JudgeContext(engine, 7, 1, TEMPLATES))


def choices(shown: str) -> list[float]:
    """5 after a critique without problems, else 1."""
    assert shown.endswith("Score: ")
    return [0.0 if score == (1 if "- " in shown.split("[assistant]")[1] else 5) else -math.inf for score in range(6)]


def critic(shown: str, vote: int) -> str | tuple[str, FinishReason]:
    return FOUND if "wrong" in shown.split("<response>")[1] else "No problems."


def test_the_score_is_read_after_the_critique() -> None:
    engine = ScriptedEngine(answer=critic, choices=choices)
    rows = make_judge(engine).judge(make_items("wrong", "right"))
    assert [(r.score, r.outcome, r.raw) for r in rows] == [(1.0, "ok", FOUND), (5.0, "ok", "No problems.")]
    assert [json.loads(r.detail)["problems"] for r in rows] == [2, 0]
    assert [len(r.messages) for r in engine.requests] == [1, 1]
    assert engine.calls == 2


def test_in_words_the_second_answer_is_kept() -> None:
    def answer(shown: str, vote: int) -> str:
        return critic(shown, vote) if "<response>" in shown else "Score: 2"  # type: ignore[return-value]

    rows = make_judge(ScriptedEngine(answer=answer), mode="text", critiques=2).judge(make_items("wrong", "Score: 5"))
    assert [(r.score, r.outcome) for r in rows] == [(2.0, "ok")] * 2 + [(None, "parse_error")] * 2
    assert json.loads(rows[0].detail)["answer"] == "Score: 2"
    assert len({r.judgement_id for r in rows}) == 4


def test_refused_and_overlong() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "I'm sorry, I cannot.", choices=choices)
    assert [(r.score, r.outcome) for r in make_judge(engine).judge(make_items("a"))] == [(None, "refused")]
    room = len(engine.encode_prompt(engine.requests[0].messages)) + 192
    engine = ScriptedEngine(answer=lambda shown, vote: "x" * 180, choices=choices, context_length=room)
    rows = make_judge(engine).judge(make_items("a", "y" * 2000))
    assert [r.outcome for r in rows] == ["truncated", "truncated"]
    assert [len(r.raw) for r in rows] == [180, 0]


def test_a_cut_critique_is_scored() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: (FOUND, "length"), choices=choices)
    row = make_judge(engine).judge(make_items("a"))[0]
    assert row.score == 1.0
    assert json.loads(row.detail)["finish_reason"] == "length"


def test_the_rubric_must_be_a_conversation(tmp_path: Path) -> None:
    head = "---\nkind: judge\nvariables: [instruction, response, critique]\nchoices: [0, 1]\n---\n"
    for body in (
        "{{ instruction }}{{ response }}{{ critique }}",
        "=== user ===\n{{ instruction }}{{ response }}{{ critique }}\n=== assistant ===\nok\n=== user ===\nscore\n",
    ):
        (tmp_path / "x.j2").write_text(head + body, encoding="utf-8")
        with pytest.raises(PromptFileError, match="in the first '=== assistant ===' message"):
            make_judge(None, rubric=str(tmp_path / "x.j2"))


def test_settings() -> None:
    assert make_judge(None).score_range == make_judge(None, mode="text").score_range == (0.0, 5.0)
    hashes = {make_judge(None, **s).judge_hash for s in ({}, {"critiques": 2}, {"mode": "text"}, {"max_tokens": 9})}
    assert len(hashes) == 4


@pytest.mark.parametrize("mode", ["logits", "text"])
def test_a_real_model(tiny_model: Path, mode: str, tmp_path: Path) -> None:
    rubric = tmp_path / "short.j2"
    rubric.write_text(
        "---\nkind: judge\nvariables: [instruction, response, critique]\nchoices: [0, 1]\n"
        "score: {min: 0, max: 1, pattern: 'score: (\\d)'}\n---\n"
        "=== user ===\n{{ instruction }} {{ response }}?\n=== assistant ===\n{{ critique }}\n=== user ===\nscore?\n",
        encoding="utf-8",
    )
    engine = TransformersEngine(TransformersEngine.Config(), tiny_model)
    judge = make_judge(engine, mode=mode, critiques=2, max_tokens=8, rubric=str(rubric))
    items = make_items("a", "bb")
    rows = judge.judge(items)
    assert len(rows) == 4
    assert len({r.raw for r in rows}) > 1
    assert [r.raw for r in judge.judge(items[1:])] == [r.raw for r in rows[2:]]
    if mode == "logits":
        assert {r.outcome for r in rows} <= {"ok", "refused"}
