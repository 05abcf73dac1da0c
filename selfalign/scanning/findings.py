"""What a scan finds: a place in a text, and the row that is told of it. No row holds a whole value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from selfalign.types import Prompt

#: Every kind, from the surest: where two rules find the same place, the earlier kind counts.
KINDS = (
    "private_key", "aws_access_key", "aws_secret_key", "azure_storage_key", "discord_token", "github_token",
    "gitlab_token", "jwt", "mailchimp_key", "npm_token", "openai_key", "anthropic_key", "google_api_key",
    "hugging_face_token", "pypi_token", "sendgrid_key", "slack_token", "square_secret", "stripe_key", "telegram_token",
    "twilio_key", "password_in_url", "email", "iban", "credit_card", "cn_resident_id", "us_ssn", "phone_number",
    "ip_address", "high_entropy",
)  # fmt: skip
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}
#: An excerpt shows at most so many characters of a value, and at most a fifth of it.
_SHOWN = 4


@dataclass(frozen=True)
class Match:
    """Characters ``start`` to ``end`` of a text are a value of ``kind``."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Finding:
    """One value. ``where`` is the prompt's place in ``source`` (``name:line``), or in a run that of its prompt.

    ``id`` is the prompt's or the candidate's, ``field`` the text it is in (text, answer, candidate), ``start`` the
    character of it where the value begins, from 0. ``excerpt`` is masked.
    """

    source: str
    where: str
    id: str
    field: str
    start: int
    kind: str
    excerpt: str


@dataclass(frozen=True)
class Flagged:
    """A prompt with what its text or its answer holds."""

    prompt: Prompt
    findings: tuple[Finding, ...]


def masked(value: str) -> str:
    """The beginning of ``value``, enough to recognise it by and of no use to others; its length is not told either."""
    shown = value[: min(_SHOWN, len(value) // 5)]
    return f"{shown if shown.isprintable() else ''}********"


def settled(found: Iterable[Match]) -> list[Match]:
    """In order of place, and of those that overlap one: the one that begins first, of these the surest kind."""
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: (match.start, _RANK[match.kind], -match.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
    return kept
