"""Prompts that repeat earlier ones, from the text to the plan and the events of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.errors import ConfigError, ModelError
from selfalign.progress import Silent
from selfalign.sources.normal import normalised
from selfalign.stages import encoded, prompts
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


def test_near_repeats_by_rouge_l(tmp_path: Path) -> None:
    texts = ["Write a poem about cats", "Write a poem about dogs", "Boil an egg"]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    context = opened(tmp_path, dedupe="rouge_l")
    left = [p.text for p in prompts.load_training(context)]
    assert left == ["Write a poem about cats", "Boil an egg", "A story, please!", "A song"]
    assert [(r.prompt.text, r.how) for r in context.repeats] == [("Write a poem about dogs", "rouge_l")]
    context = opened(tmp_path, dedupe="rouge_l", dedupe_overlap=0.8)
    assert len(prompts.load_training(context)) == 5


def test_near_repeats_by_a_sentence_encoder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model says nothing of meaning, but the same of the same words: those differ here in a sign that counts."""
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    texts = ["What is 2+2 in all?", "What is 2-2 in all?", "Boil an egg"]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    encoder = {"dedupe": "embeddings", "dedupe_model": str(tiny_model)}
    vectors = encoded.vectors(opened(tmp_path, **encoder), [*texts, "A story, please!", "A song"])
    assert len(vectors) == 5 and np.allclose((vectors**2).sum(axis=1), 1, atol=1e-5)
    near, far = float(vectors[0] @ vectors[1]), float(max(vectors[0] @ vectors[2], vectors[1] @ vectors[2]))
    assert near > far
    monkeypatch.setattr(encoded, "_encode", lambda *_: pytest.fail("encoded twice"))
    context = opened(tmp_path, **encoder, dedupe_similarity=near - 1e-3)
    left = [p.text for p in prompts.load_training(context)]
    assert left[:2] == ["What is 2+2 in all?", "Boil an egg"]
    assert ("What is 2-2 in all?", "embeddings") in [(r.prompt.text, r.how) for r in context.repeats]


def test_an_encoder_that_does_not_work_is_one_error(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="dedupe_model, a folder or hub name"):
        opened(tmp_path, dedupe="embeddings")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "tokenizer.json").write_text("{")
    (tmp_path / "p.jsonl").write_text('{"text": "Boil an egg"}\n')
    with pytest.raises(ModelError, match=f"{broken}: gives no vectors of prompts .*another sentence encoder"):
        prompts.load_training(opened(tmp_path, dedupe="embeddings", dedupe_model=str(broken)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'selfalign\[embeddings\]'"):
        prompts.load_training(opened(tmp_path, dedupe="embeddings", dedupe_model=str(tiny_model)))


def test_without_the_setting_a_pool_and_its_fingerprint_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "A story please"}\n{"text": "A song"}\n')
    context = opened(tmp_path)
    assert [p.text for p in prompts.load_training(context)] == ["A story please", "A song", "A story, please!"]
    assert context.repeats == []
    # As the version before sources other than JSONL computed it.
    from selfalign.identity import content_id

    ids = [p.prompt_id for p in prompts.load_training(context)]
    assert prompts.fingerprint(context, 1) == content_id("prompts", 0, 1, 64, ids)
