"""What other sites, other machines and clever queries get: nothing."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from selfalign.browse.access import access_for, host_name, is_loopback, parse_origin
from selfalign.browse.app import make_app
from selfalign.errors import BadInput
from selfalign.store.store import Store
from selfalign.types import Pair
from selfalign.workspace import Workspace
from tests.browse.conftest import BASE, pages
from tests.store.test_read_sql import ATTACKS
from tests.store.test_sql_attacks import REFUSED


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8777", "localhost.evil.example", "127.0.0.1.nip.io", "", "169.254.0.1", "box.example",
             "localhost:x", "[::1", "user@localhost", "localhost:8777:1", "[::1]evil"],
)  # fmt: skip
def test_on_loopback_only_its_own_names_are_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 421 and "selfalign browse" in answer.text


def test_its_own_names(client: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:8777", "127.0.0.1:1234", "[::1]:8777"):
        assert client.get("/", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://localhost"}, {"Origin": "https://localhost:8777"},
     {"Origin": "http://localhost:8778"}, {"Origin": BASE + ".evil.example"}, {"Referer": BASE}],
)  # fmt: skip
def test_a_form_of_another_site_is_not_taken(client: TestClient, workspace: Workspace, headers: dict[str, str]) -> None:
    pair = Store(workspace.store_path).rows(Pair)[0]
    answer = client.post(f"/pairs/{pair.pair_id}/review", data={"decision": "flip"}, headers=headers)
    assert answer.status_code == 403
    assert not workspace.reviews.exists()


def test_other_methods_and_other_sites_questions_are_refused(client: TestClient) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/").status_code == 405
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/", headers=cross).status_code == 403
    assert client.get("/", headers=cross | {"Sec-Fetch-Mode": "navigate"}).status_code == 200, "a link from elsewhere"
    assert client.get("/sql?q=select+1", headers=cross | {"Sec-Fetch-Mode": "navigate"}).status_code == 403


def test_headers_of_every_answer(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/nothing"),
        client.get("/static/app.js"),
        client.get("/", headers={"Host": "x"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_opened_wider_it_asks_for_the_token(workspace: Workspace) -> None:
    access = access_for("0.0.0.0", 8777, ["box.example"], token=False)
    assert access.token is not None and len(access.token) > 40
    client = TestClient(make_app(workspace, access, "t"), base_url="http://box.example:8777", follow_redirects=False)
    for path in (
        "/",
        "/pairs",
        "/static/app.js",
        "/sql?q=select+1",
        "/?token=",
        f"/?token={access.token[:-1]}",
        f"/?token={access.token}x",
    ):
        assert client.get(path).status_code == 401, path
    for cookie in ("", access.token[:-1], f"{access.token}x", "é"):
        assert client.get("/", headers={"Cookie": f"{access.cookie}={cookie}".encode()}).status_code == 401
    assert client.post(f"/?token={access.token}", headers={"Origin": "http://box.example:8777"}).status_code == 401
    given = client.get(f"/pairs?round=1&token={access.token}")
    assert (given.status_code, given.headers["location"]) == (303, "/pairs?round=1"), "the address loses the token"
    cookie = given.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "8777" in cookie
    assert client.get("/pairs").status_code == 200
    fresh = TestClient(client.app, base_url="http://box.example:8777", follow_redirects=False)
    assert fresh.get(f"/%2Fevil.example/?token={access.token}").headers["location"] == "/evil.example/"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"Host": "192.168.1.5:8777"}).status_code == 200, "an address cannot be rebound"


def test_a_token_on_loopback_where_it_is_asked_for(workspace: Workspace) -> None:
    assert pages(workspace, token=True).get("/").status_code == 401
    assert access_for("127.0.0.1", 1, [], token=False).token is None
    tokens = {access_for("::", 1, [], token=False).token for _ in range(5)}
    assert len(tokens) == 5


def test_which_addresses_are_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.example")))


@given(st.text(max_size=40))
def test_any_host_header_is_read_or_refused(text: str) -> None:
    name = host_name(text)
    assert name is None or (name and name == name.lower())


HTTP_ATTACKS = [*ATTACKS[:-8], *REFUSED]


@pytest.mark.parametrize("attack", HTTP_ATTACKS)
def test_the_box_reads_this_store_and_nothing_else(browsed: Workspace, attack: str, tmp_path: Path) -> None:
    """Also those of tests/store, through the page."""
    before = hashlib.sha256(browsed.store_path.read_bytes()).digest()
    (tmp_path / "data.csv").write_text("a,b\n1,root:x\n")
    answer = pages(browsed).get("/sql", params={"q": attack.format(tmp=tmp_path) if "{tmp}" in attack else attack})
    assert answer.status_code == 400, answer.text
    message = html.unescape(re.search(r'class="error">([^<]*)<', answer.text)[1])  # type: ignore[index]
    assert message and "\n" not in message and "root:x" not in message and "Traceback" not in answer.text
    assert hashlib.sha256(browsed.store_path.read_bytes()).digest() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_the_box_answers_questions(browsed: Workspace) -> None:
    client = pages(browsed)
    text = client.get("/sql", params={"q": "select round, count(*) as n from pairs group by round"}).text
    assert "<th>round</th><th>n</th>" in text and "1 rows" in text
    many = client.get("/sql", params={"q": "select range as i from range(100000)"}).text
    assert "200 rows, there are more" in many and many.count("<tr>") == 201
    assert "NULL" in client.get("/sql", params={"q": "select null as x, [1, 2] as y, 'é' as z"}).text
    assert "round_summary" in client.get("/sql").text


def test_through_a_tls_proxy_only_its_origin_posts(workspace: Workspace) -> None:
    access = access_for("127.0.0.1", 8777, [], token=False, origin="https://pairs.example")
    assert access.token is not None, "the proxy reaches loopback for everybody"
    app = make_app(workspace, access, "t")
    pair = Store(workspace.store_path).rows(Pair)[0]
    for base in ("http://pairs.example", BASE):  # the proxy hands the browser's Host on, or its own
        client = TestClient(app, base_url=base, follow_redirects=False)
        assert client.get("/").status_code == 401
        given = client.get(f"/?token={access.token}")
        assert ("secure" in given.headers["set-cookie"].lower()) == (base != BASE)
        cookie = {"Cookie": f"{access.cookie}={access.token}"}

        def post(*origins: str, client: TestClient = client, cookie: dict[str, str] = cookie) -> int:
            headers = [*cookie.items(), *(("Origin", origin) for origin in origins)]
            return client.post(
                f"/pairs/{pair.pair_id}/review", data={"decision": "accept"}, headers=headers
            ).status_code

        for other in ("http://pairs.example", "https://pairs.example:8443", "https://evil.example", "null"):
            assert post(other) == 403, other
        assert post() == post("https://pairs.example", "https://evil.example") == 403
        assert not workspace.reviews.exists()
        assert post("https://pairs.example") == 303
        workspace.reviews.unlink()
    client = TestClient(app, base_url=BASE, follow_redirects=False)
    for host in ("evil.example", "sub.pairs.example", "pairs.example.evil.example"):
        assert client.get("/", headers={"Host": host}).status_code == 421


def test_an_origin_is_as_browsers_send_it() -> None:
    assert parse_origin("https://Pairs.Example/") == "https://pairs.example"
    assert parse_origin("https://pairs.example:443") == "https://pairs.example"
    assert parse_origin("https://[::1]:8443") == "https://[::1]:8443"
    for text in ("http://pairs.example", "pairs.example", "https://", "https://pairs.example/runs", "https://a@b",
                 "https://b?x", "https://b:x", "https://paare.beispiel\n", "https://päare.example", "*", ""):  # fmt: skip
        with pytest.raises(BadInput, match="--origin"):
            parse_origin(text)


@given(st.text(max_size=30))
def test_any_origin_is_read_or_refused(text: str) -> None:
    try:
        found = parse_origin(f"https://{text}")
    except BadInput:
        return
    assert parse_origin(found) == found and host_name(found.removeprefix("https://"))
