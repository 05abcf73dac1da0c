"""Training prompts that repeat earlier ones: which are left out, and for which. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.sources.normal import normalised
from selfalign.types import Prompt

How = Literal["exact", "normalised", "rouge_l", "embeddings"]


@dataclass(frozen=True)
class Repeat:
    """``prompt`` was left out, as it says what ``kept`` says."""

    prompt: Prompt
    kept: Prompt
    how: How


#: Of texts, the indices of those that are near an earlier one that stays, and of that one (in_order.repeats).
Near = Callable[[Sequence[str]], Mapping[int, int]]


def find_repeats(prompts: Sequence[Prompt], how: How, near: Near | None = None) -> list[Repeat]:
    """Every prompt that repeats an earlier one, in order.

    "exact": the same id. "normalised": also the same text but for case, spaces and punctuation. Any other ``how`` finds
    these too, and of the rest what ``near`` does.
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
    if near is not None:
        places = [place for place in range(len(prompts)) if place not in found]
        pairs = near([prompts[place].text for place in places])
        found |= {places[n]: Repeat(prompts[places[n]], prompts[places[m]], how) for n, m in pairs.items()}
    return [found[place] for place in sorted(found)]
