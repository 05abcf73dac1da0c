"""How alike two prompts are: ROUGE-L (Lin 2004) over words, of two texts and of very many. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rapidfuzz.distance import Indel, LCSseq
from rapidfuzz.process import cdist

from selfalign.sources import in_order
from selfalign.sources.in_order import COLUMNS, ROWS

#: Chinese, Japanese and Korean characters are words of their own; elsewhere a word is a run of letters and digits.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
#: float32 scores this far below a threshold are computed exactly.
_ROUNDING = 1e-5


def words(text: str) -> list[str]:
    """Lower-case words; single characters for Chinese, Japanese and Korean."""
    return _WORD.findall(text.lower())


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """ROUGE-L F1 of two lists of words: 2 LCS / (len(left) + len(right)); 0 where both are empty."""
    total = len(left) + len(right)
    return 2 * int(LCSseq.similarity(left, right)) / total if total else 0.0


def alike(left: Sequence[str], right: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """(index in ``left``, index in ``right``, ROUGE-L F1) of every pair of texts above ``threshold``, in this order."""
    of_left, of_right = [words(text) for text in left], [words(text) for text in right]
    codes = _codes([*of_left, *of_right])
    mine, theirs = _written(of_left, codes, 0), _written(of_right, codes, 1)
    for at in range(0, len(mine), ROWS):
        found: list[tuple[int, int]] = []
        for start in range(0, len(theirs), COLUMNS):
            near = _near(mine[at : at + ROWS], theirs[start : start + COLUMNS], threshold)
            found += [(at + row, start + column) for row, column in near]
        for row, column in sorted(found):
            if (score := rouge_l(of_left[row], of_right[column])) > threshold:
                yield row, column, score


def repeats(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """:func:`in_order.repeats` of ``texts``: alike is a ROUGE-L F1 above ``threshold``."""
    tokens = [words(text) for text in texts]
    codes = _codes(tokens)
    # A word of one text only is unlike any other, whichever side the text is on.
    new, old = _written(tokens, codes, 0), _written(tokens, codes, 1)

    def alike(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int]]:
        for row, column in _near([new[i] for i in left], [old[i] for i in right], threshold):
            if rouge_l(tokens[left[row]], tokens[right[column]]) > threshold:
                yield left[row], right[column]

    return in_order.repeats(len(texts), alike)


def _near(left: Sequence[str], right: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """(row, column), row by row, of every pair that may be above ``threshold``; a normalised indel similarity is F1."""
    if not left or not right:
        return []
    # Texts without words are alike here; their exact score is 0.
    cutoff = max(0.0, threshold - _ROUNDING)
    scores = cdist(left, right, scorer=Indel.normalized_similarity, score_cutoff=cutoff, dtype=np.float32, workers=-1)
    return [(int(row), int(column)) for row, column in np.argwhere(scores >= cutoff)]


def _codes(texts: Sequence[Sequence[str]]) -> dict[str, str]:
    """A character for each word that several texts have; the two first characters are kept for words of one text.

    Where there are more words than characters, some share one: then pairs look nearer than they are, never further.
    """
    several = Counter(word for text in texts for word in set(text))
    shared = [word for word, n in several.items() if n > 1]
    return {word: chr(2 + index % (0x110000 - 2)) for index, word in enumerate(shared)}


def _written(texts: Sequence[Sequence[str]], codes: dict[str, str], side: int) -> list[str]:
    return ["".join(codes.get(word, chr(side)) for word in text) for text in texts]
