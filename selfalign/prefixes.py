"""What sequences of tokens have in common at their beginning. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from selfalign.types import TokenSequence


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all ``sequences`` share."""
    # Only the smallest and the largest can differ first: everything else sorts between them.
    low, high = min(sequences, key=tuple), max(sequences, key=tuple)
    for position, (left, right) in enumerate(zip(low, high, strict=False)):
        if left != right:
            return position
    return min(len(low), len(high))


def shared_beginning(prompts: Sequence[tuple[int, ...]], least: int) -> tuple[int, ...]:
    """What all ``prompts`` begin with, of at least ``least`` tokens or none; it leaves a token of each to be read."""
    if len(prompts) < 2:
        return ()
    length = min(shared_prefix_length(prompts), min(map(len, prompts)) - 1)
    return prompts[0][:length] if length >= least else ()


def tokens_to_read(sequence: TokenSequence) -> tuple[int, ...]:
    """What a model reads to predict the completion: all but its last token, after which nothing is predicted."""
    return (sequence.prompt_ids + sequence.completion_ids)[:-1] if sequence.completion_ids else sequence.prompt_ids


def by_neighbours(texts: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """(index, shared) in sorted order: ``shared`` tokens the text begins with as the one before it does.

    Sorted, what a text has in common with any before it, it has in common with the one just before.
    """
    before: tuple[int, ...] = ()
    for index in sorted(range(len(texts)), key=texts.__getitem__):
        yield index, shared_prefix_length([before, texts[index]])
        before = texts[index]


def forest_size(texts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of ``texts`` where every beginning that some have in common is read once."""
    return sum(len(texts[index]) - shared for index, shared in by_neighbours(texts))


def forests(texts: Sequence[tuple[int, ...]], room: int) -> list[list[int]]:
    """Indices into ``texts``, those that begin alike together, in as few forests as hold at most ``room`` tokens each.

    The largest of them is as small as it can be, so that little is padded. A text longer than ``room`` has one for itself.
    """
    added = [(index, len(texts[index]), len(texts[index]) - shared) for index, shared in by_neighbours(texts)]
    few = len(_filled(added, room))
    least = bisect_left(range(room), True, key=lambda size: len(_filled(added, size)) <= few)
    return _filled(added, least)


def _filled(added: Sequence[tuple[int, int, int]], room: int) -> list[list[int]]:
    """Forests filled one after the other; ``added``: index, tokens of the text, tokens it adds to those before it."""
    found: list[list[int]] = []
    size = 0
    for index, alone, new in added:
        if found and size + new <= room:
            found[-1].append(index)
            size += new
        else:
            found.append([index])
            size = alone
    return found
