from __future__ import annotations

import dataclasses
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.endpoints.answer import TopToken, choice_log_probs, read, token_at
from selfalign.endpoints.cache import ReplyCache
from selfalign.endpoints.chat import ChatEndpoint, EndpointSettings, check_url, is_loopback, retry_after
from selfalign.endpoints.pace import Pace
from selfalign.errors import ConfigError, EndpointDown, StageDied, StageFailed
from tests.endpoints.server import FakeTime, Say, chat_server, completion

ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def endpoint(url: str, time: FakeTime | None = None, **more: Any) -> ChatEndpoint:
    time = time or FakeTime()
    found = EndpointSettings(url, **{"timeout_seconds": 5.0, "retries": 3, **more})
    return ChatEndpoint(found, time.clock, time.sleep)


def text_of(reply: Any) -> str:
    return str(reply.body["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "trouble",
    [
        Say({"error": {"message": "oops"}}, 500),
        Say(b"<html>bad gateway</html>", 502),
        Say({}, 408),
        Say(b'{"choices": [', 200),
        Say(b"[1]", 200),
        Say(b"[" * 100_000, 200),
        Say({"error": {"message": "upstream"}}, 200),
        Say(completion("half of this"), 200, drop=True),
        Say(b"not gzip", 200, {"content-encoding": "gzip"}),
    ],
)
def test_trouble_on_the_way_is_tried_again(trouble: Say) -> None:
    with chat_server(lambda number, body: trouble if number < 2 else Say(completion("fine"))) as server:
        time = FakeTime()
        assert text_of(endpoint(server.url, time).ask(ASK)) == "fine"
        assert len(server.requests) == 3
        # 1 s and 2 s, each with up to half of it off
        assert [0.5 <= time.slept[0] <= 1, 1 <= time.slept[1] <= 2] == [True, True]


def test_an_outage_is_an_error_that_may_be_retried() -> None:
    with chat_server(lambda number, body: Say(b"down", 503)) as server:
        with pytest.raises(EndpointDown, match="no usable reply in 4 attempts; last: 503 down") as caught:
            endpoint(server.url).ask(ASK)
        assert len(server.requests) == 4
    assert isinstance(caught.value, StageDied)
    with pytest.raises(EndpointDown, match="ConnectError"):  # nobody listens any more
        endpoint(server.url).ask(ASK)


def test_a_slow_server_is_left_and_asked_again() -> None:
    never = threading.Event()
    script = lambda number, body: Say(completion("late"), wait=never) if number == 0 else Say(completion("in time"))  # noqa: E731
    with chat_server(script) as server:
        assert text_of(endpoint(server.url, timeout_seconds=0.2).ask(ASK)) == "in time"
        never.set()


@pytest.mark.parametrize(("header", "expected"), [("7", 7.0), ("0.25", 0.5)])
def test_retry_after_is_honoured_by_everybody(header: str, expected: float) -> None:
    busy = Say({"error": {"message": "slow down"}}, 429, {"Retry-After": header})
    with chat_server(lambda number, body: busy if number == 0 else Say(completion("ok"))) as server:
        time = FakeTime()
        assert text_of(endpoint(server.url, time).ask(ASK)) == "ok"
        assert time.now >= expected
        assert time.now <= max(expected, 1.0)


def test_a_retry_after_beyond_the_limit_stops() -> None:
    with chat_server(lambda number, body: Say(b"", 429, {"Retry-After": "3600"})) as server:
        with pytest.raises(EndpointDown, match="left alone for 3600 s, more than longest_delay_seconds"):
            endpoint(server.url).ask(ASK)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say({"error": {"message": "bad key secret-key"}}, 401), "bad key [key].*check the key"),
        (Say(b"nothing here", 404), "check base_url and model"),
        (Say({"error": {"message": "no such parameter"}}, 400), "check model and the settings of the request"),
        (Say({"error": {"code": "insufficient_quota"}}, 429), "quota is used up"),
        (Say(b"", 302, {"location": "http://elsewhere/"}), "302"),
    ],
)
def test_a_refusal_is_not_asked_again_and_keeps_the_key(
    say: Say, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    with chat_server(lambda number, body: say) as server:
        with pytest.raises(StageFailed, match=message.replace("[key]", r"\[key\]")) as caught:
            endpoint(server.url, api_key_env="MY_KEY").ask(ASK)
        assert not isinstance(caught.value, StageDied)
        assert len(server.requests) == 1
        assert server.headers[0]["authorization"] == "Bearer secret-key"
    assert "secret" not in str(caught.value)


def test_a_key_that_is_not_set_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        endpoint("http://127.0.0.1:9/v1", api_key_env="MY_KEY").ask(ASK)


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_filter"])
def test_what_is_wrong_with_the_question_is_a_reply(code: str) -> None:
    with chat_server(lambda number, body: Say({"error": {"code": code, "message": "no"}}, 400)) as server:
        assert endpoint(server.url).ask(ASK).status == 400


def test_nothing_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    with chat_server(lambda number, body: Say(completion(f"answer {number}"))) as server:
        first = endpoint(server.url, cache=tmp_path, api_key_env="MY_KEY")
        assert [text_of(first.ask(ASK)), text_of(first.ask(ASK, vote=1))] == ["answer 0", "answer 1"]
        again = endpoint(server.url, cache=tmp_path)
        assert [text_of(again.ask(ASK, vote=1)), text_of(again.ask(ASK))] == ["answer 1", "answer 0"]
        assert text_of(again.ask({**ASK, "temperature": 0.5})) == "answer 2"
        assert "authorization" not in server.headers[2]
    files = list(tmp_path.rglob("*.json"))
    assert len(files) == 3
    assert not any("secret-key" in file.read_text() for file in files)
    assert json.loads(files[0].read_text())["request"]["model"] == "m"


def test_a_damaged_cache_file_is_absent(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    cache.put("abc", {}, {"status": 200, "body": {"x": "\ud800"}})
    assert cache.get("abc") == {"status": 200, "body": {"x": "\ud800"}}
    (tmp_path / "ab" / "abc.json").write_text('{"reply": ')
    assert cache.get("abc") is None


def test_loopback_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with chat_server(lambda number, body: Say(completion("direct"))) as server:
        assert text_of(endpoint(server.url, retries=0).ask(ASK)) == "direct"
    assert is_loopback("http://localhost:1/v1")
    assert is_loopback("http://[::1]:1/v1")
    assert not is_loopback("http://10.0.0.1/v1")


def test_the_pace_is_even_and_shared() -> None:
    time = FakeTime()
    pace = Pace(30, time.clock, time.sleep)
    turns = []
    for _ in range(4):
        pace.wait()
        turns.append(time.now)
    assert turns == [0, 2, 4, 6]
    pace.hold(60)
    pace.wait()
    assert time.now == 66


def test_retry_after_forms() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("Thu, 01 Jan 2026 00:01:30 GMT", now) == 90
    assert retry_after("Thu, 01 Jan 2020 00:00:00 GMT", now) == 0
    for odd in (None, "", "soon", "-3", "nan", "inf"):
        assert retry_after(odd, now) == 0


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "localhost:8000/v1", "http://me:pw@x/v1", "http://x/v1?key=1", "http://"]
)
def test_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "pw" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "prompt_tokens", "logprobs",
                         "top_logprobs", "token", "logprob", "refusal", "text"]), inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["choices", "usage", "model", "error"]), json_values))
@settings(max_examples=200, deadline=None)
def test_no_reply_is_too_odd_to_be_read(body: dict[str, Any]) -> None:
    answer = read(body)
    answer.raw.encode()
    assert all(value <= 1e-3 for token in answer.tokens for _, value in token.top)


def test_what_a_reply_says() -> None:
    answer = read(completion("Score: 4", "length"))
    assert (answer.text, answer.finish_reason, answer.model, answer.prompt_tokens) == (
        "Score: 4",
        "length",
        "judge-1",
        100,
    )
    refused = read(completion(None, message={"refusal": "I cannot."}))
    assert (refused.text, refused.raw, refused.refused) == (None, "I cannot.", True)
    assert read(completion([{"type": "text", "text": "a"}, {"text": "b"}])).text == "ab"
    assert json.loads(read({"odd": 1}).raw) == {"odd": 1}
    assert read(completion("\ud83d half")).raw == "? half"


def test_log_probabilities_of_choices() -> None:
    tokens = (
        TopToken("好", ()),
        TopToken(": ", ()),
        TopToken("4", (("4", -1.0), (" 4", -1.0), ("5", -2.0), ("x", -3.0))),
    )
    assert token_at(tokens, "好: 4", 3) is tokens[2]
    assert token_at(tokens, "\\x: 4", 4) is tokens[2]
    assert token_at(tokens, "好: 5", 3) is None
    four, five, three = choice_log_probs(tokens[2], ["4", "5", "3"])
    assert four == pytest.approx(-1.0 + 0.6931, abs=1e-4)
    assert (five, three) == (-2.0, float("-inf"))


def test_settings_hold_no_key() -> None:
    assert not any("key" in f.name and f.name != "api_key_env" for f in dataclasses.fields(EndpointSettings))
