"""Which language a prompt is in, where its source does not say."""

from __future__ import annotations

import unicodedata

#: Share of Chinese characters among letters from which a text without "language" is taken to be Chinese.
_CHINESE_SHARE = 0.2


def guess_language(text: str) -> str:
    """Language code (zh, ja, ko, else en) by script alone, so without a download; a file can say it better."""
    letters = [character for character in text if character.isalpha()]
    scripts = [unicodedata.name(character, "").partition(" ")[0] for character in letters]
    share = {name: scripts.count(name) / max(1, len(letters)) for name in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")}
    if share["HANGUL"] >= _CHINESE_SHARE:
        return "ko"
    if share["HIRAGANA"] + share["KATAKANA"] >= _CHINESE_SHARE:
        return "ja"
    return "zh" if share["CJK"] >= _CHINESE_SHARE else "en"
