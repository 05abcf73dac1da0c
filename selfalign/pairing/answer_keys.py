"""When two answers say the same: keys that are equal for them. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal

#: A number with optional sign, thousands separated by commas, and decimals; not inside a word.
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])")
_NOT_TEXT = re.compile(r"[\W_]+")


def text_key(text: str) -> str | None:
    """The words without case, punctuation and spacing; None for a text without words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOT_TEXT.sub(" ", folded).strip() or None


def number_key(text: str) -> str | None:
    """The last number of the text, however it is written (7, 7.0, +7; 1,000 and 1000); None where there is none."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    if not found:
        return None
    value = Decimal(found[-1].replace(",", "")).normalize()
    return "0" if value == 0 else format(value, "f")


#: By the name that a config says.
KEYS: Mapping[str, Callable[[str], str | None]] = {"text": text_key, "number": number_key}
