"""What sequences of tokens have in common at their beginning. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from selfalign.types import TokenSequence


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all ``sequences`` share."""
    # Only the smallest and the largest can differ first: everything else sorts between them.
    low, high = min(sequences, key=tuple), max(sequences, key=tuple)
    for position, (left, right) in enumerate(zip(low, high, strict=False)):
        if left != right:
            return position
    return min(len(low), len(high))


def tokens_to_read(sequence: TokenSequence) -> tuple[int, ...]:
    """What a model reads to predict the completion: all but its last token, after which nothing is predicted."""
    return (sequence.prompt_ids + sequence.completion_ids)[:-1] if sequence.completion_ids else sequence.prompt_ids


def in_neighbour_order(texts: Sequence[tuple[int, ...]]) -> list[int]:
    """Indices such that what a text has in common with any before it, it has in common with the one just before."""
    return sorted(range(len(texts)), key=texts.__getitem__)


def forest_size(texts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of ``texts`` where every beginning that some have in common is read once."""
    ordered = [texts[index] for index in in_neighbour_order(texts)]
    return sum(map(len, ordered)) - sum(shared_prefix_length(two) for two in pairwise(ordered))


def forests(texts: Sequence[tuple[int, ...]], room: int) -> list[list[int]]:
    """Indices into ``texts``, those that begin alike together, in forests of about the same size.

    As few as there can be with at most ``room`` tokens each; a longer text has one for itself.
    """
    total = forest_size(texts)
    enough = math.ceil(total / max(1, math.ceil(total / room)))
    found: list[list[int]] = []
    size = 0
    for index in in_neighbour_order(texts):
        new = len(texts[index]) - (shared_prefix_length([texts[found[-1][-1]], texts[index]]) if found else 0)
        if found and size < enough and size + new <= room:
            found[-1].append(index)
            size += new
        else:
            found.append([index])
            size = len(texts[index])
    return found
