from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfalign.config import MetaSettings
from selfalign.errors import PromptFileError
from selfalign.judges.meta import JudgedCandidate
from selfalign.judges.meta_judge import MetaJudge, questions
from selfalign.judges.parsing import parse_score
from selfalign.judges.rubric import score_format, words
from selfalign.protocols import JudgeContext, WritingJudge
from selfalign.registry import find
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import MetaJudgement
from tests.judges.scripted import ScriptedEngine, make_items
from tests.judges.test_meta import candidate

TEMPLATES = Templates([shipped_prompts()])
LONG = 10_000


def make(seed: int = 7, round: int = 1, templates: Templates = TEMPLATES, **settings: Any) -> MetaJudge:
    return MetaJudge(MetaSettings(enabled=True, **settings), templates, seed, round)


def shown_pair(shown: str) -> tuple[str, str]:
    first = shown.split("<judgement_a>\n")[1].split("\n</judgement_a>")[0]
    return first, shown.split("<judgement_b>\n")[1].split("\n</judgement_b>")[0]


def better(shown: str) -> str:
    first, second = (int(text.split()[1]) for text in shown_pair(shown))
    return "A" if first > second else "B"


def by_quality(shown: str, vote: int) -> str:
    return f"Because.\nWinner: {better(shown)}"


def ask(
    judge: MetaJudge, engine: ScriptedEngine, *candidates: JudgedCandidate, room: int = LONG
) -> list[MetaJudgement]:
    asked = questions(candidates)
    plan = judge.plan(engine, asked)
    assert sorted(i for batch in plan for i in batch) == list(range(len(asked)))
    rows = [row for batch in plan for row in judge.ask(engine, [asked[i] for i in batch], room)]
    assert {row.meta_id for row in rows} == {judge.meta_id(question, engine.weights_hash) for question in asked}
    return rows


@pytest.mark.parametrize("name", ["meta/judgements", "meta/critiques"])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Winner: A", 1), ("**Winner:** B", 0), ("winner: [[B]]", 0), ("Winner: Reviewer A.", 1),
        ("Winner: A? No. Winner: B", 0), ("Winner: A or B", None), ("Winner: Alice", None), ("A is better", None),
        ("Winner: A tie", None), ("winner: a list", None), ("Winner: <letter>", None), ("", None),
    ],
)  # fmt: skip
def test_verdicts(name: str, raw: str, expected: float | None) -> None:
    template = TEMPLATES.load(name)
    found, outcome = parse_score(raw, score_format(template), "stop", words=words(template))
    assert (found, outcome) == (expected, "parse_error" if expected is None else "ok")


def test_every_two_judgements_are_compared_in_both_orders() -> None:
    engine = ScriptedEngine(answer=by_quality)
    three, two = candidate("quality 1", "quality 3", "quality 2"), candidate("quality 5", "quality 4", number=1)
    rows = ask(make(), engine, three, two)
    assert len(rows) == 8 and len({request.seeds for request in engine.requests}) == 8
    assert {row.outcome for row in rows} == {"ok"} and all("Winner" in row.raw for row in rows)
    texts = {j.judgement_id: j.raw for c in (three, two) for j in c.judgements}
    for row in rows:
        assert row.p_first == (1 if row.winner == "first" else 0)
        winner, loser = (row.first_id, row.second_id)[:: 1 if row.winner == "first" else -1]
        assert int(texts[winner].split()[1]) > int(texts[loser].split()[1])
    assert sorted(ask(make(), engine, two, three), key=repr) == sorted(rows, key=repr), "order decides nothing"
    other = ask(make(round=2), engine, three, two)
    assert {row.meta_id for row in other}.isdisjoint(row.meta_id for row in rows)
    assert {row.seed for row in other}.isdisjoint(row.seed for row in rows)


def test_verdicts_from_logits() -> None:
    def choices(shown: str) -> list[float]:
        assert shown.endswith("Winner: ")
        p = 0.5 if "quality 7" in shown else 0.75 if better(shown) == "A" else 0.25
        return [math.log(p) - 3, math.log(1 - p) - 3]

    engine = ScriptedEngine(choices=choices)
    rows = ask(make(mode="logits"), engine, candidate("quality 1", "quality 2"))
    assert sorted((row.winner, row.p_first) for row in rows) == [
        ("first", pytest.approx(0.75)), ("second", pytest.approx(0.25))
    ]  # fmt: skip
    assert {(row.raw, row.seed) for row in rows} == {("", None)}
    assert {row.outcome for row in ask(make(mode="logits"), engine, candidate("quality 7", "quality 2"))} == {"tie"}
    unsure = ask(make(mode="logits", min_mass=0.5), engine, candidate("quality 1", "quality 2"))
    assert {(row.outcome, row.winner, row.p_first) for row in unsure} == {("parse_error", None, None)}


def test_what_does_not_fit_is_not_asked() -> None:
    small = ScriptedEngine(answer=by_quality, context_length=100)
    rows = ask(make(), small, candidate("quality 1", "quality 2"))
    assert {(row.outcome, row.winner) for row in rows} == {("truncated", None)}
    assert "window" in rows[0].detail and small.calls == 0
    engine = ScriptedEngine(answer=by_quality)
    short, long = candidate("quality 1", "quality 2"), candidate("quality 1", "quality 2" + "x" * 300, number=1)
    rows = ask(make(), engine, short, long, room=200)
    outcomes = {row.candidate_id: row.outcome for row in rows}
    assert outcomes == {"p0-c0": "ok", "p0-c1": "truncated"}
    assert any("too long to be trained on" in row.detail for row in rows)


def test_a_winner_named_inside_a_judgement_is_not_the_verdict() -> None:
    candidates = candidate("quality 1. Winner: A", "quality 2. Winner: A")
    for said in ("Both are poor.", 'The first says "Winner: A".', "Winner: A"):
        rows = ask(make(), ScriptedEngine(answer=lambda shown, vote, said=said: said), candidates)  # type: ignore[misc]
        assert {(row.winner, row.outcome) for row in rows} == {(None, "parse_error")}, said


def test_the_hash_covers_what_decides() -> None:
    judges = [make(), make(temperature=0.1), make(max_tokens=8), make(rubric="meta/critiques"), make(mode="logits"),
              make(mode="logits", min_mass=0.5)]  # fmt: skip
    assert len({judge.meta_hash for judge in judges}) == len(judges)
    assert make(mode="logits", max_tokens=8, candidates=3).meta_hash == make(mode="logits").meta_hash


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("kind: judge", "of kind 'meta_judge'"),
        ("kind: meta_judge\nchoices: [A, B]\nvalues: [2, 1]", "from 0 to 1"),
        ("kind: meta_judge\nchoices: [A, B]\nvalues: [1, 0]", "needs score"),
        ("kind: meta_judge", "needs choices"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused(tmp_path: Path, head: str, expected: str) -> None:
    body = "{{ instruction }}{{ response }}{{ judgement_a }}{{ judgement_b }}"
    variables = "variables: [instruction, response, judgement_a, judgement_b]"
    (tmp_path / "mine.j2").write_text(f"---\n{head}\n{variables}\n---\n{body}\n", encoding="utf-8")
    with pytest.raises(PromptFileError, match=expected):
        make(templates=Templates([tmp_path]), rubric="mine")


def test_judges_that_write_say_what_they_were_asked(tmp_path: Path) -> None:
    (item,) = make_items("Hello.")
    references = tmp_path / "references.jsonl"
    references.write_text(json.dumps({"prompt": item.prompt.text, "reference": "Hi."}), encoding="utf-8")
    for settings, text in (
        ({"id": "rubric_votes", "votes": 4}, "Score: 3"),
        ({"id": "critique", "critiques": 4}, "- a problem"),
        ({"id": "reference", "mode": "text", "votes": 4, "references": str(references)}, "Score: 3"),
    ):
        plugin = find("judge", str(settings["id"])).load()
        engine = ScriptedEngine(answer=lambda shown, vote, text=text: text, choices=lambda shown: [-1.0] * 6)  # type: ignore[misc]
        judge = plugin(plugin.Config.model_validate(settings), JudgeContext(engine, 7, 1, TEMPLATES))
        assert isinstance(judge, WritingJudge)
        assert len([row for row in judge.judge([item]) if row.raw == text]) == judge.written == 4
        assert engine.requests[0].messages == judge.asks(item)
