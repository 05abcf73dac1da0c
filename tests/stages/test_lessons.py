"""What is taught: balanced, from known verdicts only, the same every time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.judges.rubric_logits import RubricLogitsJudge
from selfalign.judges.verifier import VerifierJudge
from selfalign.judges.weighted import WeightedJudge
from selfalign.protocols import JudgeContext, TeachableJudge
from selfalign.registry import find
from selfalign.stages.lessons import instruction_lessons, judge_lessons, verified_pairs, wanted
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import ScoredCandidate, ScoredGroup

CONTEXT = JudgeContext(None, 1, 1, Templates([shipped_prompts()]))


def gold(number: int, prompt: str = "") -> GoldItem:
    return GoldItem(
        f"g-{number}",
        "teach",
        "truncated",
        "en",
        prompt or f"Say {number}.",
        f"Here is {number}.",
        "Here",
        "",
        (),
        "[]",
    )


def group_of(scores: list[float | None], number: int = 0) -> ScoredGroup:
    better, _ = as_judge_items(gold(number), 1)
    members = tuple(
        ScoredCandidate(replace(better.candidate, candidate_id=f"{number}-{i}", sample_idx=i), score, 1, {})
        for i, score in enumerate(scores)
    )
    return ScoredGroup(better.prompt, members, "verifier")


def test_a_rubric_read_from_logits_is_taught_its_extremes() -> None:
    judge = RubricLogitsJudge(RubricLogitsJudge.Config(), CONTEXT)
    better, worse = as_judge_items(gold(1), 1)
    first, second = judge.exercises(better, worse)
    assert (first.answer, second.answer) == ("5", "0")
    assert first.answer_prefix == "Score: "
    assert "Here is 1." in first.messages[0]["content"]
    assert "Here is 1." not in second.messages[0]["content"]


def test_of_several_judges_those_are_taught_that_can_be() -> None:
    config = WeightedJudge.Config.model_validate(
        {"members": [{"id": "verifier", "weight": 1}, {"id": "rubric_logits", "weight": 1}]}
    )
    judge = WeightedJudge(config, CONTEXT)
    assert isinstance(judge, TeachableJudge)
    assert [e.answer for e in judge.exercises(*as_judge_items(gold(1), 1))] == ["5", "0"]
    assert not isinstance(VerifierJudge(VerifierJudge.Config(), CONTEXT), TeachableJudge)


@given(
    st.lists(st.lists(st.sampled_from([None, 0.0, 0.5, 1.0]), max_size=6), max_size=8),
    st.integers(0, 2**32),
)
def test_verified_pairs_are_right_disjoint_and_as_many_as_there_can_be(
    scores: list[list[float | None]], seed: int
) -> None:
    groups = [group_of(members, number) for number, members in enumerate(scores)]
    pairs = verified_pairs(groups, seed)
    of = {c.candidate.candidate_id: c.score for g in groups for c in g.candidates}
    used = [item.candidate.candidate_id for better, worse, _ in pairs for item in (better, worse)]
    assert len(set(used)) == len(used)
    for better, worse, subject in pairs:
        assert of[better.candidate.candidate_id] == 1
        assert of[worse.candidate.candidate_id] in (0.0, 0.5)
        assert better.prompt == worse.prompt
        assert subject == better.candidate.candidate_id
    most = sum(min(m.count(1.0), m.count(0.0) + m.count(0.5)) for m in scores)
    assert len(pairs) == most
    assert pairs == verified_pairs(groups, seed)


def test_verdicts_are_balanced_and_instructions_are_their_share() -> None:
    judge = RubricLogitsJudge(RubricLogitsJudge.Config(), CONTEXT)
    items = [gold(i) for i in range(30)]
    lessons = [
        lesson for item in items
        for lesson in judge_lessons(judge, judge.exercises(*as_judge_items(item, 1)), 1, "gold", item.key)
    ]  # fmt: skip
    assert Counter(lesson.answer for lesson in lessons) == {"5": 30, "0": 30}
    assert len({lesson.lesson_id for lesson in lessons}) == 60
    instructions = instruction_lessons(items, wanted(60, 0.25), 1, "Be kind.", seed=3)
    assert len(instructions) == 20
    assert all(lesson.ends for lesson in instructions) and not any(lesson.ends for lesson in lessons)
    assert json.loads(instructions[0].messages)[0] == {"role": "system", "content": "Be kind."}
    assert instructions == instruction_lessons(items, 20, 1, "Be kind.", seed=3)
    assert instructions != instruction_lessons(items, 20, 1, "Be kind.", seed=4)


def test_a_prompt_with_several_items_is_one_instruction() -> None:
    found = instruction_lessons([gold(1, "Same."), gold(2, "Same."), gold(3, "Other.")], 5, 1, None, seed=0)
    assert len(found) == 2


@pytest.mark.parametrize(("judgements", "share", "expected"), [(100, 0.0, 0), (80, 0.2, 20), (3, 0.5, 3), (1, 0.1, 1)])
def test_the_share_is_of_all_examples(judgements: int, share: float, expected: int) -> None:
    assert wanted(judgements, share) == expected


def write_gold(path: Path, count: int = 12) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "key": f"g-{i}", "split": "teach" if i % 3 else "test", "kind": "corrupted", "language": "en",
            "prompt": f"Say something short about letter {i}.", "better": f"The letter {i} is a letter of some kind.",
            "worse": f"letter of The kind some {i} letter a is.",
        }
        for i in range(count)
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("settings", "answers"),
    [
        ({"id": "rubric_logits", "rubric": "judges/yes_no"}, ["Yes", "No"]),
        ({"id": "pairwise"}, ["A", "B"]),
        ({"id": "pairwise", "mode": "text"}, []),
        ({"id": "length", "penalty": 0.1, "judge": {"id": "pairwise"}}, ["A", "B"]),
        ({"id": "length", "penalty": 0.1, "judge": {"id": "verifier"}}, []),
    ],
)
def test_every_judge_that_is_read_from_logits_can_be_taught(settings: dict[str, Any], answers: list[str]) -> None:
    plugin = find("judge", settings["id"]).load()
    judge = plugin(plugin.Config.model_validate(settings), CONTEXT)
    found = judge.exercises(*as_judge_items(gold(1), 1))
    assert [exercise.answer for exercise in found] == answers
    if len(found) == 2:
        assert found[0].messages != found[1].messages
