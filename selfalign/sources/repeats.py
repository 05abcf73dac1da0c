"""Training prompts that repeat earlier ones: which are left out, and for which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.sources.normal import normalised
from selfalign.types import Prompt

How = Literal["exact", "normalised"]


@dataclass(frozen=True)
class Repeat:
    """``prompt`` was left out, as it says what ``kept`` says."""

    prompt: Prompt
    kept: Prompt
    how: How


def find_repeats(prompts: Sequence[Prompt], how: How) -> list[Repeat]:
    """Every prompt with the id of an earlier one or, with "normalised", its text but for case, spaces and punctuation."""
    by_id: dict[str, Prompt] = {}
    by_text: dict[str, Prompt] = {}
    found: list[Repeat] = []
    for prompt in prompts:
        if (first := by_id.get(prompt.prompt_id)) is not None:
            found.append(Repeat(prompt, first, "exact"))
            continue
        alike = by_text.setdefault(normalised(prompt.text), prompt) if how == "normalised" else prompt
        if alike is not prompt:
            found.append(Repeat(prompt, alike, "normalised"))
            continue
        by_id[prompt.prompt_id] = prompt
    return found
