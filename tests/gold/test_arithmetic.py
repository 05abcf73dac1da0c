"""Right answers are right, slips are wrong, and both are numbers that could be meant."""

from __future__ import annotations

import re
from collections import Counter

from selfalign.gold.arithmetic import PER_TEMPLATE, TEMPLATES, word_problems


def test_every_right_answer_computes() -> None:
    for problem in word_problems(1):
        for left, sign, right, result in re.findall(r"(\d+) ?([+−×-]) ?(\d+) ?= ?(\d+)", problem.answers[0]):
            a, b = int(left), int(right)
            assert {"+": a + b, "−": a - b, "-": a - b, "×": a * b}[sign] == int(result), problem.answers[0]


def test_no_slip_states_the_right_result() -> None:
    for seed in range(30):
        for problem in word_problems(seed):
            result = re.findall(r"\d+", problem.reference)[-1]
            assert len(problem.wrong["arithmetic"]) >= 6
            for text in problem.wrong["arithmetic"]:
                given = re.findall(r"\d+", text)
                assert given[-1] != result and int(given[-1]) >= 0 and text not in problem.answers
                assert "--" not in text and "= -" not in text


def test_templates_are_groups_and_prompts_differ() -> None:
    problems = word_problems(2)
    assert set(Counter(problem.group for problem in problems).values()) == {PER_TEMPLATE}
    assert len({problem.prompt for problem in problems}) == len(problems) == PER_TEMPLATE * len(TEMPLATES)
    assert problems == word_problems(2) != word_problems(3)
