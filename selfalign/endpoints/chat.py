"""One OpenAI-compatible chat endpoint: asked with retries, at a pace, each question once.

What is wrong with the way there (no connection, a dropped one, time-outs, 408, 429, 5xx, a body that is
not JSON) is tried again and at last raises EndpointDown: an outage is never an answer. What the server says
about the question itself (too long, filtered) comes back as a reply.
"""

from __future__ import annotations

import ipaddress
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from selfalign.endpoints.cache import ReplyCache
from selfalign.endpoints.pace import Pace
from selfalign.errors import ConfigError, EndpointDown, StageFailed
from selfalign.identity import content_id

#: Worth another attempt, beside every 5xx.
_TRANSIENT = (408, 409, 425, 429)
#: Codes of a 429 that waiting does not cure.
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached")
_SHOWN = 300


@dataclass(frozen=True)
class EndpointSettings:
    """Where and how to ask. None of it but ``base_url`` can change an answer.

    ``api_key_env`` names an environment variable; the key itself is never written anywhere.
    """

    base_url: str
    api_key_env: str | None = None
    timeout_seconds: float = 120.0
    retries: int = 5
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 60.0
    requests_per_minute: float | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class Reply:
    """``status`` 200, or 400/413/422 with what the server holds against this question."""

    status: int
    body: Mapping[str, Any]


class ChatEndpoint:
    """Safe to be asked from several threads. ``clock`` and ``sleep`` are there for tests."""

    def __init__(
        self,
        settings: EndpointSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._cache = ReplyCache(settings.cache) if settings.cache else None
        self._pace = Pace(settings.requests_per_minute, clock, sleep)
        self._sleep = sleep
        self._client: httpx.Client | None = None
        self._opening = threading.Lock()
        self._jitter = random.Random()
        self._key = ""

    def ask(self, request: Mapping[str, Any], vote: int = 0) -> Reply:
        """The reply to ``request`` (the JSON body); ``vote`` tells repeated questions apart.

        Raises:
            EndpointDown: no reply after all retries; what was answered before is in the cache.
            StageFailed: the server refuses us (key, model, address, quota): asking again would not help.
        """
        key = content_id("chat", self._url, request, vote)
        if self._cache and (known := self._cache.get(key)) is not None:
            return Reply(int(known["status"]), known["body"])
        reply = self._ask(request)
        if self._cache:
            self._cache.put(key, dict(request), {"status": reply.status, "body": dict(reply.body)})
        return reply

    def check_key(self) -> None:
        """Raises ConfigError: the variable with the key is not set, or holds none."""
        _api_key(self._settings.api_key_env)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, request: Mapping[str, Any]) -> Reply:
        client, problem = self._open(), ""
        for attempt in range(self._settings.retries + 1):
            self._pace.wait()
            wanted, for_all = 0.0, False
            try:
                response = client.post(self._url, json=dict(request))
                found = self._read(response)
                if isinstance(found, Reply):
                    return found
                problem, wanted = found, retry_after(response.headers.get("retry-after"))
                for_all = wanted > 0 or response.status_code in (429, 503)
            except httpx.RequestError as error:
                problem = f"{type(error).__name__}: {error}"
            if wanted > self._settings.longest_delay_seconds:
                problem += f" (it asks to be left alone for {wanted:.0f} s, more than longest_delay_seconds)"
                break
            if attempt < self._settings.retries:
                delay = max(wanted, self._delay(attempt))
                self._pace.hold(delay) if for_all else self._sleep(delay)
        raise EndpointDown(
            f"{self._url}: no usable reply in {attempt + 1} attempts; last: {self._clean(problem)}; what was answered "
            f"is kept, run again when the server is well"
        )

    def _read(self, response: httpx.Response) -> Reply | str:
        """A reply, or what is wrong in words where another attempt may help; raises StageFailed where none will."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        status, code = response.status_code, _code(body)
        if isinstance(body, dict) and status == 200 and not body.get("error"):
            return Reply(status, body)
        if status == 200:  # some servers report their errors so; most are passing
            return "200 with an error" if isinstance(body, dict) else "a body that is not a JSON object"
        said = f"{status} {response.text[:_SHOWN]}"
        if status >= 500 or (status in _TRANSIENT and code not in _USED_UP):
            return said
        if status in (400, 413, 422) and isinstance(body, dict) and about_question(body, status):
            return Reply(status, body)
        raise StageFailed(f"{self._url}: refuses the request: {self._clean(said)}; {_remedy(status)}")

    def _open(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                self._key = _api_key(self._settings.api_key_env)
                self._client = httpx.Client(
                    timeout=self._settings.timeout_seconds,
                    headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                    # A proxy cannot reach this machine's own loopback.
                    trust_env=not is_loopback(self._url),
                    follow_redirects=False,
                )
            return self._client

    def _delay(self, attempt: int) -> float:
        longest = min(self._settings.longest_delay_seconds, self._settings.first_delay_seconds * 2.0**attempt)
        return longest * self._jitter.uniform(0.5, 1.0)

    def _clean(self, text: str) -> str:
        """One line, without the key: servers quote what they were given."""
        line = " ".join(text.split())
        return line.replace(self._key, "[key]") if self._key else line


def about_question(body: Mapping[str, Any], status: int) -> str | None:
    """ "truncated" where a 4xx says that the question is too long, "refused" where a filter stopped it, else None."""
    code, message = _code(body), _message(body)
    if status == 413 or code == "context_length_exceeded" or "context length" in message or "too long" in message:
        return "truncated"
    if code in ("content_filter", "content_policy_violation") or "content management policy" in message:
        return "refused"
    return None


def retry_after(header: str | None, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where there is none to be read."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def check_url(base_url: str) -> None:
    """Raises ConfigError: no http(s) address, or one with a user name or query, which would be stored."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"base_url {base_url!r}: not an address: {error}") from None
    if url.userinfo:
        raise ConfigError("base_url: holds a user name or password; put the key into the variable of api_key_env")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigError(f"base_url {base_url!r}: write it as http(s)://host[:port]/v1")


def is_loopback(address: str) -> bool:
    host = httpx.URL(address).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _api_key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"environment variable {variable} is not set; export the endpoint's key in it and run again")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"environment variable {variable} holds no usable key (line breaks or other characters)")
    return key


def _code(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


def _message(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    return str(error.get("message") if isinstance(error, dict) else error or body.get("message") or "").lower()


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "check the key in the variable that api_key_env names"
    if status == 404:
        return "check base_url and model"
    if status == 429:
        return "the account's quota is used up"
    return "check model and the settings of the request"
