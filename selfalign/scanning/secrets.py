"""Keys, tokens and passwords in texts, by the patterns of detect-secrets (Yelp).

Of its plugins those are taken whose patterns say by themselves that a value is a secret. Left out are Artifactory's and
the one for keywords, which ordinary words match, and those for IBM's services: everything in them but the word "key" is
optional, and on a long row of spaces they take cubic time. A few formats came after its last version.

A pattern is only tried around a run of at least 20 characters that tokens are made of, and the run must not be longer
than any token: time grows with the length of the text alone, and ordinary sentences cost next to nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from selfalign.scanning.findings import Match
from selfalign.scanning.reserved import is_example_password, is_example_secret, is_reserved_domain

#: Where a token may be, how far before it a pattern may begin, and the length from which on it is data, not a token.
_RUN = re.compile(r"[A-Za-z0-9_+/=.:@-]{20,}")
_BEFORE, _AFTER, _LONGEST_TOKEN = 64, 2, 2048
#: kind -> plugin of detect_secrets.plugins, as module and class.
_PLUGINS = {
    "azure_storage_key": ("azure_storage_key", "AzureStorageKeyDetector"),
    "discord_token": ("discord", "DiscordBotTokenDetector"),
    "github_token": ("github_token", "GitHubTokenDetector"),
    "gitlab_token": ("gitlab_token", "GitLabTokenDetector"),
    "jwt": ("jwt", "JwtTokenDetector"),
    "mailchimp_key": ("mailchimp", "MailchimpDetector"),
    "npm_token": ("npm", "NpmDetector"),
    "openai_key": ("openai", "OpenAIDetector"),
    "pypi_token": ("pypi_token", "PypiTokenDetector"),
    "sendgrid_key": ("sendgrid", "SendGridDetector"),
    "slack_token": ("slack", "SlackDetector"),
    "square_secret": ("square_oauth", "SquareOAuthDetector"),
    "stripe_key": ("stripe", "StripeDetector"),
    "telegram_token": ("telegram_token", "TelegramBotTokenDetector"),
    "twilio_key": ("twilio", "TwilioKeyDetector"),
}
#: Formats that detect-secrets 1.5.0 does not know, as their makers' own scanners have them.
_NEWER = (
    ("anthropic_key", r"sk-ant-[a-z]{3,5}\d{2}-[A-Za-z0-9_-]{80,120}"),
    ("github_token", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("google_api_key", r"AIza[A-Za-z0-9_-]{35}"),
    ("hugging_face_token", r"hf_[A-Za-z]{34}"),
)
#: What a text must hold for a pattern that looks for it only after long ways.
_NEEDED = {"openai_key": "T3BlbkFJ", "npm_token": ":_authToken=", "jwt": "eyJ"}
#: Ends of a key block, and how far from its beginning they are looked for, in characters.
_KEY_ENDS, _LONGEST_KEY = re.compile(r"-----END|Private-MAC:"), 16_384
_KEY_BODY = re.compile(r"[A-Za-z0-9+/]{40}")
_REST = re.compile(r"[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_HOST = re.compile(r"@([A-Za-z0-9.-]{1,253})")
#: A random string without a format of its own.
_ENTROPIC = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,512}={0,2}(?![A-Za-z0-9+/_-])")
_ENTROPY = 4.0
#: Of its neighbouring characters at least this share differ in class: about 0.64 do in random base64, 0.3 in names.
_CHANGES = 0.4
#: Public keys of SSH (their length field), and what names the hash that follows.
_PUBLIC = re.compile(r"AAAA|sha\d+-")


def find_secrets(text: str) -> Iterator[Match]:
    """Every secret of ``text``; several may overlap."""
    blocks = list(_blocks(text))
    begins = [start for start, _, _ in blocks]
    yield from (Match("private_key", start, end) for start, end, secret in blocks if secret)
    if "://" in text:
        yield from _passwords(text)
    for run in _RUN.finditer(text):
        if run.end() - run.start() <= _LONGEST_TOKEN:
            yield from _tokens(text, run.start(), run.end())
            block = bisect_right(begins, run.start()) - 1
            if block < 0 or run.start() >= blocks[block][1]:
                yield from _random(text, run.start(), run.end())


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it is a private key) of everything between a BEGIN line and its END line."""
    if "BEGIN " not in text and "PuTTY-User-Key-File" not in text:
        return
    position = 0
    begins, private = _key_patterns()
    while begin := begins.search(text, position):
        limit = min(len(text), begin.end() + _LONGEST_KEY)
        end = _KEY_ENDS.search(text, begin.end(), limit)
        position = end.end() if end else limit
        secret = private.match(text, begin.start()) is not None and _KEY_BODY.search(text, begin.end(), position)
        yield begin.start(), position, bool(secret)


@cache
def _key_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Beginnings of any block, and of those that are private keys."""
    from detect_secrets.plugins.private_key import PrivateKeyDetector

    private = "|".join(f"(?:{pattern.pattern})" for pattern in PrivateKeyDetector.denylist)
    # PKCS#8 with a password is not among them.
    private += "|BEGIN ENCRYPTED PRIVATE KEY"
    return re.compile(rf"(?:-----)?(?:{private})|-----BEGIN "), re.compile(rf"(?:-----)?(?:{private})")


def _passwords(text: str) -> Iterator[Match]:
    from detect_secrets.plugins.basic_auth import BasicAuthDetector

    for pattern in BasicAuthDetector.denylist:
        for match in pattern.finditer(text):
            host = _HOST.match(text, match.end() - 1)
            if not is_example_password(match[1]) and not (host and is_reserved_domain(host[1].rstrip("."))):
                yield Match("password_in_url", *match.span(1))


@cache
def _token_patterns() -> Sequence[tuple[str, re.Pattern[str], str]]:
    """(kind, pattern, what the text must hold for it)."""
    from importlib import import_module

    from detect_secrets.plugins.aws import AWSKeyDetector

    access, secret = AWSKeyDetector.denylist
    found = [("aws_access_key", access), ("aws_secret_key", secret)]
    for kind, (module, name) in _PLUGINS.items():
        plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        found += [(kind, pattern) for pattern in plugin.denylist]
    found += [(kind, re.compile(pattern)) for kind, pattern in _NEWER]
    return [(kind, pattern, _NEEDED.get(kind, "")) for kind, pattern in found]


def _tokens(text: str, start: int, end: int) -> Iterator[Match]:
    """Tokens with a format of their own in the run from ``start`` to ``end``."""
    first, last = max(0, start - _BEFORE), min(len(text), end + _AFTER)
    for kind, pattern, needed in _token_patterns():
        if needed and text.find(needed, first, last) < 0:
            continue
        for match in pattern.finditer(text, first, last):
            begins, stops = _span(match)
            # Some patterns stop within longer tokens of today, and that of JWTs before the signature.
            rest = _REST.match(text, stops, end)
            stops = rest.end() if rest else stops
            # Within a longer word it is chance.
            if _is_word(text, begins - 1) and _is_word(text, match.start() - 1):
                continue
            value = text[begins:stops]
            if not is_example_secret(value) and len(set(value)) > 8 and (kind != "jwt" or _is_jwt(value)):
                yield Match(kind, begins, stops)


def _span(match: re.Match[str]) -> tuple[int, int]:
    """Of the secret itself, where a pattern also has what stands before it; a group that is a prefix is not it."""
    longest = max(range(1, match.re.groups + 1), key=lambda group: len(match[group] or ""), default=0)
    return match.span(longest) if longest and len(match[longest] or "") >= 20 else match.span()


def _is_word(text: str, position: int) -> bool:
    return position >= 0 and text[position].isascii() and text[position].isalnum()


def _is_jwt(value: str) -> bool:
    from detect_secrets.plugins.jwt import JwtTokenDetector

    return bool(JwtTokenDetector.is_formally_valid(value))


# -- random strings ----------------------------------------------------------------------------------------


def _random(text: str, start: int, end: int) -> Iterator[Match]:
    """Strings in the run that only a generator writes: of mixed classes in no order, and nobody's text in base64."""
    if _is_address(text, start, end) or is_example_secret(text[start:end]):
        return
    for match in _ENTROPIC.finditer(text, start, end):
        value = match[0]
        if (
            _is_mixed(value)
            and _entropy(value) >= _ENTROPY
            and not _PUBLIC.match(value)
            and not _is_encoded_text(value)
        ):
            yield Match("high_entropy", *match.span())


def _is_address(text: str, start: int, end: int) -> bool:
    """Whether the run belongs to a web address or to data in one: ids of pages are random, and public."""
    word = text[max(0, start - 512) : end].rsplit(None, 1)[-1]
    return "://" in word or "www." in word or ";base64," in word


def _is_mixed(value: str) -> bool:
    # Without what parts the words of a path.
    classes = ["digit" if c.isdigit() else "upper" if c.isupper() else "lower" for c in value if c.isalnum()]
    changes = sum(one != other for one, other in pairwise(classes))
    return len(set(classes)) == 3 and changes >= _CHANGES * len(classes)


def _entropy(value: str) -> float:
    """Bits a character."""
    return float(_detector().calculate_shannon_entropy(value))


@cache
def _detector() -> Any:
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

    return Base64HighEntropyString()


def _is_encoded_text(value: str) -> bool:
    """Whether it is base64 of something that people read: a prompt may ask what it says."""
    body = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(body + "=" * (-len(body) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return all(character.isprintable() or character.isspace() for character in decoded)
