"""What identifies a person in texts: addresses of mail and machines, numbers of phones, accounts, cards and identities.

Numbers are checked by libraries that know their rules (phonenumbers, python-stdnum); where a number without such a rule
is meant to be any number, how it is written decides. Every pattern is bounded, so that time grows with the length of the
text alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from selfalign.scanning.findings import Match
from selfalign.scanning.reserved import (
    is_example_iban,
    is_example_resident_id,
    is_example_ssn,
    is_fictitious_phone,
    is_reserved_domain,
    is_test_card,
)

#: RFC 5321: 64 characters before the @. Not pictures for two pixels a point (icon@2x.png), nor git's user (git@host:x).
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])(?!git@)[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@(?!\dx\.)"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9@-])"
)
_DIGITS = re.compile(r"\d")
#: 13 to 19 digits, singly parted by spaces or hyphens.
_CARD = re.compile(r"(?<![\w.+-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])(?!\.\d)")
#: Issuers' first digits and lengths: Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay.
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|35\d{14}|62\d{14,17}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
#: 18 characters, of which the middle is a day: the checksum alone lets every eleventh number pass.
_RESIDENT_ID = re.compile(r"(?<![A-Za-z0-9])[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dXx](?![A-Za-z0-9])")
_IPV4 = re.compile(r"(?<![\w.-])(?<![A-Za-z0-9]/)\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)(?![\w-])")
#: What stands before versions of four numbers; those that end with zeros (114.0.0.0) are none of a machine either.
_VERSION = re.compile(r"(?:\bversion|\bver\.?|\brelease|\bbuild|\bv|版本)[\s:=]*$|[<>=!~]=\s*$", re.IGNORECASE)
#: Global unicast is 2000::/3.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])")

#: At least seven digits with little between them, of one number or of several.
_PHONE = re.compile(r"(?<!\d)[+(（]{0,2}\d(?:[ \t()（）.\-/‐‑–]{0,3}\d){6,400}")
#: Numbers as they are written in a country, without its code: other digits could mean anything.
_NATIONAL = {
    "US": re.compile(r"(?:1[-. ])?\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}"),
    "CN": re.compile(r"1[3-9]\d[- ]?\d{4}[- ]?\d{4}|[(（]?0\d{2,3}[)）]?[- ]?\d{7,8}"),
}
_HAN = re.compile("[\u4e00-\u9fff]")
#: Words after which digits are a phone's, however they are written, and how far before it they are looked for.
_PHONE_WORD = re.compile(
    r"\b(?:tele)?phone|\btel\b|\bcall\b|\bcell\b|\bmobile\b|\bfax\b|\bwhatsapp\b|\bsms\b|\bdial\b|电话|手机|致电|拨打|热线|传真",
    re.IGNORECASE,
)
_NEARBY = 30


def find_personal(text: str) -> Iterator[Match]:
    """Everything in ``text`` that identifies a person; several may overlap."""
    if "@" in text:
        yield from _emails(text)
    if not _DIGITS.search(text):
        return
    yield from _addresses(text)
    for match in _PHONE.finditer(text):
        yield from _phones(text, match.start(), match.end())
    yield from _cards(text)
    yield from _ibans(text)
    yield from _identities(text)


def _emails(text: str) -> Iterator[Match]:
    for match in _EMAIL.finditer(text):
        if not is_reserved_domain(match[1]):
            yield Match("email", *match.span())


def _addresses(text: str) -> Iterator[Match]:
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - 12) : match.start()]
        if _is_public(match[0]) and not match[0].endswith(".0.0") and not _VERSION.search(before):
            yield Match("ip_address", *match.span())
    for match in _IPV6.finditer(text):
        if _is_public(match[0]):
            yield Match("ip_address", *match.span())


def _is_public(address: str) -> bool:
    """Whether a machine on the internet may have it: not a private one, nor one for documents (RFC 5737, 3849)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return found.is_global and not found.is_multicast


# -- numbers -----------------------------------------------------------------------------------------------


def _phones(text: str, start: int, end: int) -> Iterator[Match]:
    """Valid numbers among the digits from ``start`` to ``end``: with a country's code, or as a country writes them."""
    before = text[max(0, start - _NEARBY) : start]
    announced = _PHONE_WORD.search(before) is not None
    chinese = _HAN.search(text, max(0, start - 200), end + 200) is not None
    written = text[start:end]
    for region in ("US", "CN") if chinese else ("US",):
        if announced or "+" in written or _NATIONAL[region].search(written):
            yield from _valid_phones(text, start, end, region, announced)


def _valid_phones(text: str, start: int, end: int, region: str, announced: bool) -> Iterator[Match]:
    import phonenumbers
    from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher

    first = max(0, start - 2)
    for match in PhoneNumberMatcher(text[first : end + 2], region, leniency=Leniency.VALID):
        at, raw = first + match.start, match.raw_string
        international = raw.startswith("+") and raw[1:2].isdigit() and not (at and text[at - 1].isalnum())
        if not (announced or international or _NATIONAL[region].fullmatch(raw)):
            continue
        if not is_fictitious_phone(phonenumbers.format_number(match.number, PhoneNumberFormat.E164)):
            yield Match("phone_number", at, first + match.end)


def _cards(text: str) -> Iterator[Match]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _ISSUER.fullmatch(digits) and luhn.is_valid(digits) and not is_test_card(digits):
            yield Match("credit_card", *match.span())


def _ibans(text: str) -> Iterator[Match]:
    for match in _IBAN.finditer(text):
        from stdnum import iban

        if iban.is_valid(match[0]) and not is_example_iban(iban.compact(match[0])):
            yield Match("iban", *match.span())


def _identities(text: str) -> Iterator[Match]:
    for match in _SSN.finditer(text):
        from stdnum.us import ssn

        if ssn.is_valid(match[0]) and not is_example_ssn(match[0]):
            yield Match("us_ssn", *match.span())
    for match in _RESIDENT_ID.finditer(text):
        from stdnum.cn import ric

        if ric.is_valid(match[0]) and not is_example_resident_id(match[0].upper()):
            yield Match("cn_resident_id", *match.span())
