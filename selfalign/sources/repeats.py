"""Training prompts that repeat earlier ones: which are left out, and for which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.sources import rouge
from selfalign.sources.normal import normalised
from selfalign.types import Prompt

How = Literal["exact", "normalised", "rouge_l"]


@dataclass(frozen=True)
class Repeat:
    """``prompt`` was left out, as it says what ``kept`` says."""

    prompt: Prompt
    kept: Prompt
    how: How


def find_repeats(prompts: Sequence[Prompt], how: How, overlap: float = 0.7) -> list[Repeat]:
    """Every prompt that repeats an earlier one, in order; each ``how`` finds what those before it find, and more.

    "exact": the same id. "normalised": the same text but for case, spaces and punctuation. "rouge_l": a ROUGE-L F above
    ``overlap`` with an earlier prompt that stays.
    """
    by_id: dict[str, Prompt] = {}
    by_text: dict[str, Prompt] = {}
    found: dict[int, Repeat] = {}
    for place, prompt in enumerate(prompts):
        if (first := by_id.get(prompt.prompt_id)) is not None:
            found[place] = Repeat(prompt, first, "exact")
            continue
        alike = by_text.setdefault(normalised(prompt.text), prompt) if how != "exact" else prompt
        if alike is not prompt:
            found[place] = Repeat(prompt, alike, "normalised")
            continue
        by_id[prompt.prompt_id] = prompt
    if how == "rouge_l":
        places = [place for place in range(len(prompts)) if place not in found]
        near = rouge.repeats([prompts[place].text for place in places], overlap)
        found |= {places[n]: Repeat(prompts[places[n]], prompts[places[m]], "rouge_l") for n, m in near.items()}
    return [found[place] for place in sorted(found)]
