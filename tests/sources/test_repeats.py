"""Prompts that repeat earlier ones, from the text to the plan and the events of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.progress import Silent
from selfalign.sources.normal import normalised
from selfalign.stages import prompts
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.types import Event
from selfalign.workspace import Workspace

HELD = '{"text": "Something quite different"}\n'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Write a Poem!", " write  a\npoem"),
        ("“Hi”, he said…", "hi he said"),
        ("ＡＢＣ。", "abc"),
        ("你好，世界", "你好 世界"),
    ],
)
def test_alike_but_for_case_space_and_punctuation(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("In C++", "In C#"), ("2+2?", "2-2?"), ("1.5", "15"), ("?!", "..."), ("10%", "10")]
)
def test_signs_that_mean_something_stay(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text())
def test_normalising_again_changes_nothing_more_than_case_of_odd_letters(text: str) -> None:
    assert normalised(f"  {text} ") == normalised(text)


def opened(folder: Path, **settings: object) -> RunContext:
    data = {"sources": [{"id": "jsonl", "path": str(folder / "p.jsonl")}, {"id": "text", "path": str(folder / "p.txt")}],
            "held_out": [{"id": "jsonl", "path": str(folder / "h.jsonl")}], **settings}  # fmt: skip
    (folder / "h.jsonl").write_text(HELD)
    (folder / "p.txt").write_text("A story, please!\nA song\n")
    config = validate_config({"name": "x", "workspace": str(folder / "run"), "prompts": data}, "test")
    workspace = Workspace(folder / "run")
    workspace.create()
    store = Store(workspace.store_path)
    store.create()
    return RunContext(config, workspace, store, Silent())


def test_repeats_are_left_out_and_named(tmp_path: Path) -> None:
    texts = ["A story please", "A song", "A song"]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    context = opened(tmp_path, dedupe="normalised")
    assert [p.text for p in prompts.load_training(context)] == ["A story please", "A song"]
    for round in (1, 2):
        prompts.run(context, round, "fingerprint")
    events = context.store.rows(Event, "kind = 'repeated_prompt'")
    assert {(e.round, e.message) for e in events} == {
        (1, "p.jsonl:3 left out: repeats p.jsonl:2 (exact)"),
        (1, "p.txt:1 left out: repeats p.jsonl:1 (normalised)"),
        (1, "p.txt:2 left out: repeats p.jsonl:2 (exact)"),
    }


def test_without_the_setting_a_pool_and_its_fingerprint_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "A story please"}\n{"text": "A song"}\n')
    context = opened(tmp_path)
    assert [p.text for p in prompts.load_training(context)] == ["A story please", "A song", "A story, please!"]
    assert context.repeats == []
    # As the version before sources other than JSONL computed it.
    from selfalign.identity import content_id

    ids = [p.prompt_id for p in prompts.load_training(context)]
    assert prompts.fingerprint(context, 1) == content_id("prompts", 0, 1, 64, ids)
