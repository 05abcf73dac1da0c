"""Everything that a scan knows, over one text or one prompt."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from selfalign.scanning.findings import Finding, Match, masked, settled
from selfalign.scanning.personal import find_personal
from selfalign.scanning.secrets import find_secrets
from selfalign.types import Prompt

#: To be raised with every change of what is found.
_RULES = 1


def find(text: str) -> list[Match]:
    """What ``text`` holds, in order, without overlaps. Takes time in proportion to its length."""
    return settled([*find_secrets(text), *find_personal(text)])


def findings(text: str, *, source: str, where: str, id: str, field: str) -> list[Finding]:
    """As :func:`find`, as rows; the other arguments are the rows' own."""
    return [
        Finding(source, where, id, field, match.start, match.kind, masked(text[match.start : match.end]))
        for match in find(text)
    ]


def texts_of(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """(field, text) of everything in a prompt that is looked at: its text, and its own answer if it has one."""
    yield "text", prompt.text
    if prompt.answer is not None:
        yield "answer", prompt.answer


def findings_in(prompt: Prompt, source: str = "") -> list[Finding]:
    """Of all texts of a prompt."""
    return [
        finding
        for field, text in texts_of(prompt)
        for finding in findings(text, source=source, where=prompt.origin, id=prompt.prompt_id, field=field)
    ]


def rules_version() -> str:
    """Changes whenever another text may be found."""
    libraries = ("detect-secrets", "phonenumbers", "python-stdnum")
    return " ".join([str(_RULES), *(version(name) for name in libraries)])
