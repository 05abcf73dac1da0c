"""Which prompts a round gets, and whether training prompts repeat held-out ones. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign.identity import derive_seed
from selfalign.sources.rouge import alike
from selfalign.types import Prompt


def draw(prompts: Sequence[Prompt], per_round: int, round: int, seed: int) -> list[Prompt]:
    """The prompts of ``round`` (from 1): all of them are used once before any is used again.

    Rounds are consecutive slices of seeded permutations laid end to end. Where a round straddles two
    permutations, the second one puts the prompts that the round already has last, so that a round never
    holds a prompt twice; with fewer than ``per_round`` prompts every round gets them all. The result
    depends on neither the order of ``prompts`` nor on which rounds were drawn before.
    """
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    size = min(per_round, len(by_id))
    stop = round * size
    sequence: list[str] = []
    epoch = 0
    while len(sequence) < stop:
        order = sorted(by_id, key=lambda prompt_id: derive_seed(seed, "draw", epoch, prompt_id))
        begun = set(sequence[len(sequence) - len(sequence) % size :])
        sequence += [i for i in order if i not in begun] + [i for i in order if i in begun]
        epoch += 1
    return [by_id[prompt_id] for prompt_id in sequence[stop - size : stop]]


def overlap_with_held_out(
    train: Sequence[Prompt], held_out: Sequence[Prompt], threshold: float
) -> list[tuple[Prompt, Prompt, float]]:
    """(training prompt, held-out prompt, ROUGE-L F) of every pair above ``threshold`` or with the same id, worst first."""
    of_id = {prompt.prompt_id: prompt for prompt in held_out}
    found = [(prompt, of_id[prompt.prompt_id], 1.0) for prompt in train if prompt.prompt_id in of_id]
    for row, column, score in alike([p.text for p in train], [p.text for p in held_out], threshold):
        if train[row].prompt_id != held_out[column].prompt_id:
            found.append((train[row], held_out[column], score))
    return sorted(found, key=lambda hit: -hit[2])
