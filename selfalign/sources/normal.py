"""Two texts that differ in nothing but case, spaces and punctuation become one. Pure."""

from __future__ import annotations

import re
import unicodedata

#: Signs that set text out: quotes, stops, brackets, dashes, and their Chinese and Japanese kin. Others mean something by
#: themselves, in code and sums (C++ and C#, 2+2 and 2-2, 10% and $10), and so does a point between digits (1.5).
_SIGNS = re.compile(
    r"(?<!\d)[.,:](?=\d)|(?<=\d)[.,:](?!\d)|(?<!\d)[.,:](?!\d)|[;!?¡¿\"'`´‘’‚‛“”„‟«»‹›()\[\]{}<>…–—―·•、。〈〉《》「」『』【】〔〕〖〗｡｢｣]"
)


def normalised(text: str) -> str:
    """Compatibility characters folded (NFKC), lower case, without punctuation, single spaces.

    A text that is nothing but punctuation keeps it: "?!" is not "...".
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_SIGNS.sub(" ", folded).split()) or " ".join(folded.split())
