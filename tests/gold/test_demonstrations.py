"""data/demonstrations.jsonl is what the program makes, is good, and is apart from all that measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign import constraints
from selfalign.gold import demonstrations
from selfalign.gold.items import load_gold
from selfalign.sources.draw import overlap_with_held_out
from selfalign.sources.jsonl import JsonlSource
from selfalign.types import Prompt

DATA = Path(__file__).parents[2] / "data"


def prompts(name: str) -> list[Prompt]:
    return list(JsonlSource(JsonlSource.Config(path=name), DATA).prompts())


@pytest.fixture(scope="module")
def shipped() -> list[Prompt]:
    return prompts("demonstrations.jsonl")


def test_the_file_is_what_the_program_makes(tmp_path: Path) -> None:
    (tmp_path / "gold_answers.jsonl").write_bytes((DATA / "gold_answers.jsonl").read_bytes())
    demonstrations.main(tmp_path)
    assert (tmp_path / "demonstrations.jsonl").read_bytes() == (DATA / "demonstrations.jsonl").read_bytes()


def test_every_answer_follows_its_prompts_constraints(shipped: list[Prompt]) -> None:
    assert len(shipped) >= 200 and sum(p.language == "zh" for p in shipped) >= 40
    checked = [p for p in shipped if p.instruction_id_list]
    assert len(checked) >= 80
    for prompt in checked:
        assert prompt.answer is not None
        result = constraints.check(prompt.answer, prompt.instruction_id_list, prompt.kwargs, prompt.text)
        assert all(result.strict), prompt.origin


def test_what_measures_a_judge_or_a_round_is_not_in_it(shipped: list[Prompt]) -> None:
    measured = {item.prompt for item in load_gold(DATA / "gold.jsonl", ("calibrate", "test"))}
    assert not measured & {prompt.text for prompt in shipped}
    assert overlap_with_held_out(shipped, prompts("held_out_prompts.jsonl"), 0.7) == []
    assert overlap_with_held_out(shipped, prompts("seed_prompts.jsonl"), 0.7) == []
