"""Which prompts a round gets, and whether training prompts repeat held-out ones. Pure functions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from selfalign.identity import derive_seed
from selfalign.types import Prompt

#: Chinese, Japanese and Korean characters are words of their own; elsewhere a word is a run of letters and digits.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


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
    """(training prompt, held-out prompt, ROUGE-L F) of every pair above ``threshold`` or with the same id, worst first.

    The bound that spares most comparisons: a longest common subsequence is at most as long as the multiset
    of common words.
    """
    held_words = [words(prompt.text) for prompt in held_out]
    positions: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, tokens in enumerate(held_words):
        for token, count in Counter(tokens).items():
            positions[token].append((index, count))
    index_of_id = {prompt.prompt_id: index for index, prompt in enumerate(held_out)}
    found: list[tuple[Prompt, Prompt, float]] = []
    for prompt in train:
        tokens = words(prompt.text)
        common: Counter[int] = Counter()
        for token, count in Counter(tokens).items():
            for index, other in positions.get(token, ()):
                common[index] += min(count, other)
        same = index_of_id.get(prompt.prompt_id)
        if same is not None:
            found.append((prompt, held_out[same], 1.0))
        for index, shared in common.items():
            if index == same or 2 * shared <= threshold * (len(tokens) + len(held_words[index])):
                continue
            score = rouge_l(tokens, held_words[index])
            if score > threshold:
                found.append((prompt, held_out[index], score))
    return sorted(found, key=lambda hit: -hit[2])


def words(text: str) -> list[str]:
    """Lower-case words; single characters for Chinese, Japanese and Korean."""
    return _WORD.findall(text.lower())


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """ROUGE-L F1 (Lin 2004): 2 LCS / (len(left) + len(right)); 0 where both are empty."""
    total = len(left) + len(right)
    return 2 * common_subsequence(left, right) / total if total else 0.0


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, by rows of bits (Hyyrö 2004): one addition a word of ``right``."""
    masks: dict[str, int] = defaultdict(int)
    for position, token in enumerate(left):
        masks[token] |= 1 << position
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        match = row & masks.get(token, 0)
        row = ((row + match) | (row - match)) & full
    return len(left) - row.bit_count()
