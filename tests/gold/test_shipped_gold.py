"""data/gold.jsonl is what construct() makes of data/gold_answers.jsonl, and is what data/README.md says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from selfalign import constraints
from selfalign.gold import construct as gold
from selfalign.gold.answers import Answer, load_answers, load_phrases
from selfalign.gold.arithmetic import word_problems
from selfalign.gold.items import GoldItem, load_gold
from selfalign.identity import canonical
from selfalign.sources.draw import overlap_with_held_out
from selfalign.sources.jsonl import JsonlSource
from selfalign.sources.rouge import rouge_l, words
from selfalign.types import Prompt

DATA = Path(__file__).parents[2] / "data"
SPLITS = ("teach", "calibrate", "test")


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return [*load_answers(DATA / "gold_answers.jsonl"), *word_problems(gold.SEED)]


@pytest.fixture(scope="module")
def items() -> list[GoldItem]:
    return load_gold(DATA / "gold.jsonl")


def test_file_is_what_the_program_makes(answers: list[Answer], tmp_path: Path) -> None:
    phrases = load_phrases(DATA / "gold_phrases.json")
    made = gold.construct(answers[::-1], phrases, gold.SEED)
    gold.write_gold(tmp_path / "gold.jsonl", made)
    assert (tmp_path / "gold.jsonl").read_bytes() == (DATA / "gold.jsonl").read_bytes()


def test_good_answers_follow_their_constraints_and_rivals_do_not(answers: list[Answer]) -> None:
    for answer in answers:
        constraints.validate(answer.instruction_id_list, answer.kwargs)
        for text in answer.answers if answer.instruction_id_list else ():
            result = constraints.check(text, answer.instruction_id_list, canonical(list(answer.kwargs)), answer.prompt)
            assert all(result.strict) and not result.errors, (answer.key, text)
        if answer.instruction_id_list:
            assert all(gold.breaks(worse, answer) for worse in answer.wrong[gold.family(answer)]), answer.key


def test_constraints_hold_for_better_and_fail_for_worse(items: list[GoldItem]) -> None:
    checked = [item for item in items if item.instruction_id_list]
    assert len(checked) >= 200
    assert {item.kind for item in checked} == {"constraint", "language"}
    for item in checked:
        better, worse = (
            constraints.check(text, item.instruction_id_list, item.kwargs, item.prompt)
            for text in (item.better, item.worse)
        )
        assert all(better.strict) and not all(worse.strict), item.key


def test_sizes(items: list[GoldItem], answers: list[Answer]) -> None:
    assert len(answers) >= 420 and sum(answer.language == "zh" for answer in answers) >= 70
    assert sum(bool(answer.instruction_id_list) for answer in answers) >= 120
    counts = Counter(item.split for item in items)
    assert len(items) >= 900 and counts["test"] >= 260 and counts["calibrate"] >= 90
    kinds = Counter((item.split, item.kind) for item in items)
    for kind in {item.kind for item in items}:
        assert kinds["test", kind] >= 10 and kinds["calibrate", kind] >= 4, kind
    assert len({item.key for item in items}) == len(items)


def longer_share(items: Sequence[GoldItem]) -> float:
    """How often the better answer is the longer one in characters; half a point for equal lengths."""
    ways = [gold.direction(item.better, item.worse) for item in items]
    return (ways.count(1) + ways.count(0) / 2) / len(ways)


def test_length_does_not_tell(items: list[GoldItem]) -> None:
    for chosen in [items, *([item for item in items if item.split == split] for split in SPLITS)]:
        strictly = sum(gold.direction(item.better, item.worse) == 1 for item in chosen) / len(chosen)
        assert 0.45 <= strictly <= 0.55 and 0.45 <= longer_share(chosen) <= 0.55
    by_kind = defaultdict(list)
    for item in items:
        by_kind[item.kind].append(item)
    for kind, members in by_kind.items():
        # An empty answer is short by its nature.
        assert kind == "terse" or 0.4 <= longer_share(members) <= 0.6, kind
        ways = Counter(gold.direction(item.better, item.worse) for item in members)
        assert min(ways[1], ways[-1]) >= 1, f"{kind}: length-inverted items"
        assert kind == "terse" or sum(gold.is_matched(item.better, item.worse) for item in members) >= 5, kind


def test_splits_share_neither_prompts_nor_answers(items: list[GoldItem]) -> None:
    owner: dict[str, str] = {}
    for item in items:
        for text in (item.prompt, item.better, item.worse):
            assert owner.setdefault(text, item.split) == item.split, text


def test_prompts_of_other_splits_and_files_are_not_alike(items: list[GoldItem]) -> None:
    by_split = {split: [as_prompt(text) for text in {i.prompt for i in items if i.split == split}] for split in SPLITS}
    everything = [prompt for prompts in by_split.values() for prompt in prompts]
    for name in ("seed_prompts.jsonl", "held_out_prompts.jsonl"):
        others = JsonlSource(JsonlSource.Config(path=name), DATA).prompts()
        found = overlap_with_held_out(everything, others, 0.7)
        assert not found, [(a.text, b.text, score) for a, b, score in found]
    for left, right in (("teach", "test"), ("teach", "calibrate"), ("calibrate", "test")):
        found = overlap_with_held_out(by_split[left], by_split[right], 0.7)
        assert not found, [(a.text, b.text, score) for a, b, score in found]


def as_prompt(text: str) -> Prompt:
    return Prompt(
        prompt_id=text, round=0, split="held_out", text=text, language="en", category="", origin="", parent_id=None,
        rouge_max=None, instruction_id_list=(), kwargs="[]",
    )  # fmt: skip


def test_good_answers_are_not_near_copies_of_one_another(answers: list[Answer]) -> None:
    split_of = gold.assign_splits(answers, gold.SEED)
    main = [(split_of[a.group], words(a.answers[0])) for a in answers if gold.family(a) == "open"]
    for number, (split, left) in enumerate(main):
        for other, right in main[:number]:
            if split != other:
                assert rouge_l(left, right) < 0.6


def test_a_style_is_better_as_often_as_worse(items: list[GoldItem]) -> None:
    """Rivals: the text that is better for one prompt is worse for the other."""
    better = Counter(item.better for item in items if item.kind == "constraint")
    worse = Counter(item.worse for item in items if item.kind == "constraint")
    assert sum((better & worse).values()) >= 100


def test_readme_states_the_counts(items: list[GoldItem]) -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    for kind in sorted({item.kind for item in items}):
        assert readme_row(f"`{kind}`", [item for item in items if item.kind == kind]) in readme
    assert readme_row("all", items) in readme


def readme_row(name: str, items: Sequence[GoldItem]) -> str:
    splits = Counter(item.split for item in items)
    ways = Counter(gold.direction(item.better, item.worse) for item in items)
    cells = (
        name, splits["teach"], splits["calibrate"], splits["test"], sum(item.language == "zh" for item in items),
        f"{ways[1]} / {ways[-1]} / {ways[0]}", sum(gold.is_matched(item.better, item.worse) for item in items),
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"
