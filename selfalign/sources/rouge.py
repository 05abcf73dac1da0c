"""How alike two prompts are: ROUGE-L (Lin 2004) over words, of two texts and of very many. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rapidfuzz.distance import Indel, LCSseq
from rapidfuzz.process import cdist

#: Chinese, Japanese and Korean characters are words of their own; elsewhere a word is a run of letters and digits.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
#: Texts compared with one another at once: a matrix of 512 x 8192 float32 is 16 MB.
_ROWS, _COLUMNS = 512, 8192
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
    for at in range(0, len(mine), _ROWS):
        found: list[tuple[int, int]] = []
        for start in range(0, len(theirs), _COLUMNS):
            near = _near(mine[at : at + _ROWS], theirs[start : start + _COLUMNS], threshold)
            found += [(at + row, start + column) for row, column in near]
        for row, column in sorted(found):
            if (score := rouge_l(of_left[row], of_right[column])) > threshold:
                yield row, column, score


def repeats(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """Of every text that is above ``threshold`` like an earlier one that stays: its index, and that of the first such.

    As Self-Instruct (Wang et al. 2023, section 2.2) keeps a new instruction: compared with what was kept before.
    """
    tokens = [words(text) for text in texts]
    codes = _codes(tokens)
    # A word of one text only is unlike any other, whichever side the text is on.
    new, old = _written(tokens, codes, 0), _written(tokens, codes, 1)
    kept: list[int] = []
    found: dict[int, int] = {}
    for at in range(0, len(texts), _ROWS):
        block = list(range(at, min(at + _ROWS, len(texts))))
        for start in range(0, len(kept), _COLUMNS):
            columns = kept[start : start + _COLUMNS]
            block = [i for i in block if i not in found]
            for row, column in _near([new[i] for i in block], [old[i] for i in columns], threshold):
                index, earlier = block[row], columns[column]
                if index not in found and rouge_l(tokens[index], tokens[earlier]) > threshold:
                    found[index] = earlier
        block = [i for i in block if i not in found]
        for row, column in _near([new[i] for i in block], [old[i] for i in block], threshold):
            index, earlier = block[row], block[column]
            if earlier >= index or {index, earlier} & found.keys():
                continue
            if rouge_l(tokens[index], tokens[earlier]) > threshold:
                found[index] = earlier
        kept += [i for i in block if i not in found]
    return found


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
