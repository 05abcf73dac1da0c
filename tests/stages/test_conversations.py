"""What a policy is shown, and which samples answer which side."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.errors import PromptFileError
from selfalign.stages.conversations import asks, contrasted, load_contrast, messages_for
from selfalign.templates import Templates, shipped_prompts
from tests.judges.scripted import make_prompt

SIDES = {"positive": "contrast/helpful", "negative": "contrast/unhelpful"}
SHIPPED = Templates([shipped_prompts()])


def test_without_contrast_a_prompt_is_asked_once() -> None:
    prompt = make_prompt(text="Say {{ hello }}.")
    (ask,) = asks([prompt], 3, "Be brief.", None)
    assert ask.messages == messages_for("Say {{ hello }}.", "Be brief.")
    assert (ask.samples, ask.origin, ask.shown) == ((0, 1, 2), None, None)


def test_both_sides_have_half_of_the_samples_each() -> None:
    contrast = load_contrast(SHIPPED, SIDES)
    good, bad = asks([make_prompt(text="Say {{ hello }}.")], 4, None, contrast)
    assert (good.origin, good.samples, bad.origin, bad.samples) == ("positive", (0, 2), "negative", (1, 3))
    assert good.shown != bad.shown
    for ask in (good, bad):
        assert ask.messages[0]["content"].startswith("Say {{ hello }}.\n"), "the instruction as it is, then the affix"
    words = [set(str(ask.messages[0]["content"]).split()) for ask in (good, bad)]
    assert len(words[0] ^ words[1]) <= 12, "the sides differ in a few words"


def test_a_files_own_system_message_replaces_the_runs(tmp_path: Path) -> None:
    head = "---\nkind: contrast\nvariables: [instruction]\n---\n"
    (tmp_path / "mine.j2").write_text(head + "=== system ===\nBe rude.\n=== user ===\n{{ instruction }}\n")
    mine = Templates([tmp_path]).load("mine")
    assert [m["content"] for m in contrasted("Hi.", mine, "Be brief.")] == ["Be rude.", "Hi."]
    shipped = SHIPPED.load("contrast/helpful")
    assert [m["role"] for m in contrasted("Hi.", shipped, "Be brief.")] == ["system", "user"]


def test_files_that_are_no_contrast_are_refused() -> None:
    with pytest.raises(PromptFileError, match="of kind 'contrast'"):
        load_contrast(SHIPPED, {**SIDES, "negative": "judges/yes_no"})
    with pytest.raises(PromptFileError, match="both sides"):
        load_contrast(SHIPPED, {**SIDES, "negative": "contrast/helpful"})
    with pytest.raises(PromptFileError, match="did you mean 'contrast/helpful'"):
        load_contrast(SHIPPED, {**SIDES, "positive": "contrast/helpfull"})
