"""Text that others wrote (models, prompt files), made safe to show.

A terminal obeys escape sequences: a model's answer could clear the screen, retitle the window or hide
lines. Stored text is kept verbatim; only what is shown is changed.
"""

from __future__ import annotations

import re

#: C0 but tab and newline, DEL, C1 (0x9b starts a sequence by itself), and overrides of the writing direction.
_ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """``text`` with every active character as an escape, e.g. \\x1b; tabs and line ends stay."""
    return _ACTIVE.sub(lambda found: _escape(found[0]), text)


def json_safe(text: str) -> str:
    """JSON text that says the same without active characters: inside strings they become \\u escapes."""
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
