"""Who may ask, and what a page may do: the checks before every request, and the headers of every answer.

A page on loopback can still be reached by other web sites that the same browser has open: by a name of theirs that
suddenly means 127.0.0.1 (DNS rebinding), and by forms that they send here (cross-site posts). So the Host must be a
name of this server, a POST must come from one of its own pages, and a query that other sites would make it run is
refused. Where it is bound wider than loopback, or answers for a proxy, everybody needs the token as well.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfalign.errors import BadInput

#: No inline script or style, nothing from elsewhere, in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; connect-src 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # same-origin, not no-referrer: with that one browsers send "Origin: null" from this server's own forms.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ORIGIN = re.compile(r"https://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Access:
    """``hosts`` are names that a Host header may have. ``any_address``: or any IP address; no name can be rebound to one.

    ``token`` None: everybody who reaches the port. ``cookie`` is the name that the token has once it was given.
    ``origin`` is how browsers see this server through a TLS proxy, if there is one: its forms are taken, too.
    """

    hosts: frozenset[str]
    any_address: bool = False
    token: str | None = None
    cookie: str = "selfalign_browse"
    origin: str | None = None

    def own(self, name: str) -> bool:
        """Whether a Host of that name is this server's, reached without a proxy."""
        return name in self.hosts or (self.any_address and _is_address(name))

    def proxied(self, name: str) -> bool:
        """Whether it is the proxy's, handed on."""
        return self.origin is not None and name == host_name(self.origin.removeprefix("https://"))


def is_loopback(host: str) -> bool:
    """Whether binding to ``host`` is reachable from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_origin(text: str) -> str:
    """An origin as browsers send it: https, a name in small letters, a port only where it is not 443.

    Raises:
        BadInput: it is none, or has a path, which pages of this server do not know of.
    """
    origin = text.lower().removesuffix("/")
    if not _ORIGIN.fullmatch(origin):
        raise BadInput(
            f"--origin {text}: write https:// and the name that browsers open, e.g. https://pairs.example.org"
        )
    return origin.removesuffix(":443")


def access_for(
    host: str, port: int, names: Iterable[str], *, token: bool, origin: str | None = None
) -> Access:  # fmt: skip
    """How a server bound to ``host`` is guarded; ``names`` are those of this machine, ``origin`` that of a TLS proxy."""
    wide = not is_loopback(host)
    hosts = (
        _LOOPBACK_NAMES | {host.lower()} | (frozenset(name.lower() for name in names if name) if wide else frozenset())
    )
    # The port is part of the name: browsers send cookies of one host to all of its ports.
    # Whoever reaches the proxy reaches this server: loopback keeps nobody out then.
    secret = secrets.token_urlsafe(32) if wide or token or origin else None
    return Access(hosts, wide, secret, f"selfalign_browse_{port}", origin)


class Guard:
    """ASGI middleware: refuses what :class:`Access` does not allow, and adds the headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._token(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (self._access.own(name) or self._access.proxied(name)):
            return _refused("this is no name of this server; use the address that 'selfalign browse' printed", 421)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refused("only GET and POST are answered here", 405)
        if scope["method"] == "POST":
            # A proxy may hand its own Host on or not; by what is not its origin only this server itself is reached.
            taken = {self._access.origin} | ({f"{scope['scheme']}://{hosts[0]}"} if self._access.own(name) else set())
            origins = headers.getlist("origin")
            if len(origins) != 1 or origins[0] not in taken:
                return _refused("a form of another site, or without an origin, is not taken", 403)
        elif headers.get("sec-fetch-site") in ("cross-site", "same-site") and (
            headers.get("sec-fetch-mode") != "navigate" or scope["path"] == "/sql"
        ):
            return _refused("another site asked for this", 403)
        return None

    def _token(self, scope: Scope) -> Response | None:
        """None where the token was given or none is needed; with it in the address, a cookie and the address without."""
        token = self._access.token
        if token is None:
            return None
        if _same(_cookie(scope, self._access.cookie), token):
            return None
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] != "POST" and any(name == "token" and _same(value, token) for name, value in given):
            rest = urlencode([(name, value) for name, value in given if name != "token"])
            # A path of two slashes would be another host's address.
            path = "/" + scope["path"].lstrip("/")
            answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
            # Through the proxy it is never to be sent unencrypted.
            secure = self._access.proxied(host_name(Headers(scope=scope)["host"]) or "")
            answer.set_cookie(self._access.cookie, token, httponly=True, samesite="strict", path="/", secure=secure)
            return answer
        return _refused("the token is missing; open the whole address that 'selfalign browse' printed", 401)


def host_name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None where it is no such header."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
    else:
        name, _, rest = host.partition(":")
        rest = f":{rest}" if rest else ""
    if not name or (rest and not rest[1:].isdecimal()):
        return None
    return name.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(scope: Scope, name: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    for header in Headers(scope=scope).getlist("cookie"):
        try:
            jar.load(header)
        except CookieError:
            return ""
    return jar[name].value if name in jar else ""


def _same(given: str, token: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _refused(why: str, status: int) -> Response:
    return PlainTextResponse(f"{why}\n", status)
