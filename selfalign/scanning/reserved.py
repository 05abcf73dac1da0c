"""Values that are published as examples and belong to nobody: prompts may hold them."""

from __future__ import annotations

import re

#: RFC 2606 and 6761: second-level names, and endings. example.edu is reserved as well (IANA).
_DOMAINS = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org|edu))?|test|invalid|localhost|local)", re.IGNORECASE)
#: Numbers that the card companies' payment processors give out for tests (Stripe, Braintree and Adyen document them).
_CARDS = frozenset({
    "4111111111111111", "4242424242424242", "4000056655665556", "4012888888881881", "4222222222222", "4000000000000002",
    "4000000000009995", "4000002500003155", "5555555555554444", "5105105105105100", "5200828282828210", "2223003122003222",
    "2223000048400011", "378282246310005", "371449635398431", "378734493671000", "6011111111111117", "6011000990139424",
    "30569309025904", "38520000023237", "36227206271667", "3530111333300000", "3566002020360505", "6200000000000005",
})  # fmt: skip
#: Examples of the IBAN registry (SWIFT) that everybody copies.
_IBANS = frozenset({
    "DE89370400440532013000", "GB29NWBK60161331926819", "GB82WEST12345698765432", "FR1420041010050500013M02606",
    "ES9121000418450200051332", "IT60X0542811101000000123456", "NL91ABNA0417164300", "BE68539007547034",
    "CH9300762011623852957", "AT611904300234573201", "PL61109010140000071219812874", "GR1601101250000000012300695",
    "SE4550000000058398257466", "NO9386011117947", "DK5000400440116243", "FI2112345600000785", "IE29AIBK93115212345678",
    "PT50000201231234567890154", "LU280019400644750000", "SA0380000000608010167519",
})  # fmt: skip
#: The national standard's own examples (GB 11643-1999).
_RESIDENT_IDS = frozenset({"11010519491231002X", "440524188001010014"})
#: Numbers that stand for a number, which SSA gave to nobody or took back.
_SSNS = frozenset({"123-45-6789", "111-11-1111", "222-22-2222", "333-33-3333", "444-44-4444", "555-55-5555"})
#: Exchange 555: the numbering plan's administrator has taken its numbers back, films and books use them; 555-01xx is
#: kept for that. Ofcom's for drama: London, mobile, no area.
_PHONES = re.compile(r"\+1\d{3}555\d{4}|\+44(?:2079460|7700900|1632960)\d{3}")
#: What stands for a password in a web address.
_PASSWORDS = frozenset({
    "password", "passwd", "passwort", "pass", "pwd", "pw", "secret", "changeme", "token", "key", "apikey", "api_key",
    "credentials", "user", "username", "admin", "root", "guest", "postgres", "test", "foo", "bar", "baz", "port",
})  # fmt: skip
#: What the writer of an example puts into a secret, so that it is none: AKIAIOSFODNN7EXAMPLE, sk-xxxxxxxx, your-key.
_PLACEHOLDER = re.compile(r"example|your|dummy|placeholder|redacted|x{4}|0{6}|\*{3}|\.{3}|[<>{}]|%s", re.IGNORECASE)
#: The token that jwt.io shows, for John Doe: what its payload begins with.
_JWT_PAYLOAD = "eyJzdWIiOiIxMjM0NTY3ODkwIiwi"


def is_reserved_domain(name: str) -> bool:
    """Whether nobody can have ``name``."""
    return _DOMAINS.fullmatch(name) is not None


def is_test_card(digits: str) -> bool:
    return digits in _CARDS


def is_example_iban(compact: str) -> bool:
    return compact in _IBANS


def is_example_resident_id(number: str) -> bool:
    return number in _RESIDENT_IDS


def is_example_ssn(number: str) -> bool:
    return number in _SSNS


def is_fictitious_phone(e164: str) -> bool:
    """Whether films may show it; ``e164`` as +12125550123."""
    return _PHONES.fullmatch(e164) is not None


def is_example_secret(value: str) -> bool:
    """Whether it only shows what a secret looks like."""
    return _PLACEHOLDER.search(value) is not None or _JWT_PAYLOAD in value


def is_example_password(value: str) -> bool:
    return value.lower() in _PASSWORDS or is_example_secret(value)
