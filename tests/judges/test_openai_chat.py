from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from selfalign.config import validate_config
from selfalign.errors import ConfigError, EndpointDown
from selfalign.judges.openai_chat import OpenAIJudge, price
from selfalign.judges.scores import aggregate
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import JudgeItem, Judgement
from tests.endpoints.server import Say, Script, chat_server, completion
from tests.judges.scripted import make_items

TEMPLATES = Templates([shipped_prompts()])


def make_judge(url: str, **settings: Any) -> OpenAIJudge:
    settings = {"first_delay_seconds": 0, "timeout_seconds": 5, "cache": False, **settings}
    config = OpenAIJudge.Config.model_validate({"base_url": url, "model": "m", **settings})
    return OpenAIJudge(config, JudgeContext(None, 7, 1, TEMPLATES))


def judged(script: Script, *texts: str, **settings: Any) -> list[Judgement]:
    with chat_server(script) as server:
        return make_judge(server.url, **settings).judge(make_items(*texts))


def by_response(body: dict[str, Any]) -> str:
    found = re.search(r"<response>\n(.*)\n</response>", body["messages"][-1]["content"], re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (completion("Good. Score: 4"), (4.0, "ok")),
        (completion("no idea"), (None, "parse_error")),
        (completion("Score: 9"), (None, "out_of_range")),
        (completion("It is rather", "length"), (None, "truncated")),
        (completion("Score: 4", "length"), (None, "truncated")),
        (completion(None, "length"), (None, "truncated")),
        (completion(None), (None, "parse_error")),
        (completion(""), (None, "parse_error")),
        (completion("Score: 4", "content_filter"), (None, "refused")),
        (completion(None, message={"refusal": "no"}), (None, "refused")),
        (completion("I'm sorry, I cannot judge this."), (None, "refused")),
        ({"choices": []}, (None, "parse_error")),
        ({"odd": ["Score: 5"]}, (None, "parse_error")),
    ],
)
def test_outcomes(reply: Any, expected: Any) -> None:
    rows = judged(lambda number, body: Say(reply), "fine", votes=1, min_valid_votes=1)
    assert [(row.score, row.outcome) for row in rows] == [expected]
    assert rows[0].raw or reply["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(("code", "outcome"), [("context_length_exceeded", "truncated"), ("content_filter", "refused")])
def test_a_question_the_server_will_not_take(code: str, outcome: str) -> None:
    rows = judged(lambda number, body: Say({"error": {"code": code}}, 400), "fine", votes=2)
    assert [(row.score, row.outcome) for row in rows] == [(None, outcome)] * 2
    assert code in rows[0].raw


def test_every_vote_has_its_seed_and_its_row() -> None:
    with chat_server(lambda number, body: Say(completion(f"Score: {body['seed'] % 6}"))) as server:
        judge = make_judge(server.url, votes=3)
        items = make_items("a", "b", "c")
        rows = judge.judge(items)
        assert [(row.candidate_id, row.sample_idx) for row in rows] == [
            (f"p0-c{i}", v) for i in range(3) for v in range(3)
        ]
        assert len({row.judgement_id for row in rows}) == len({row.seed for row in rows}) == 9
        assert [row.score for row in rows] == [(row.seed or 0) % 2**31 % 6 for row in rows]
        assert all("temperature" in body and "api" not in str(body) for body in server.requests)
        # alone, or in another order, the rows are the same
        assert [row for item in reversed(items) for row in judge.judge([item])][-3:] == rows[:3]
    assert aggregate(rows, "openai", 2)["p0-c0"].n_votes == 3


def test_in_bad_weather_no_row_is_lost_and_none_is_doubled(tmp_path: Path) -> None:
    """Every first try of a question fails, each in its own way; then a quarter fails until the stage stops."""
    tried: dict[str, int] = {}
    lock, stormy = threading.Lock(), threading.Event()
    stormy.set()
    ways = [
        Say(b"", 500), Say(b"", 429, {"Retry-After": "0.01"}), Say(b"{", 200), Say(completion("Score: 1"), drop=True),
        Say(b"", 503),
    ]  # fmt: skip

    def script(number: int, body: dict[str, Any]) -> Say:
        name = f"{by_response(body)}:{body['seed']}"
        with lock:
            tried[name] = tried.get(name, 0) + 1
            count = tried[name]
        if count == 1:
            return ways[len(tried) % len(ways)]
        if stormy.is_set() and by_response(body).endswith("3"):
            return Say(b"", 500)
        return Say(completion(f"Score: {len(by_response(body)) % 6}"))

    items = make_items(*(f"text {'x' * i} {i % 4}" for i in range(24)))
    with chat_server(script) as server:
        settings: dict[str, Any] = {"votes": 2, "retries": 3, "concurrency": 4, "cache": str(tmp_path)}
        done: list[Judgement] = []
        with pytest.raises(EndpointDown):
            for batch in make_judge(server.url, **settings).plan(items):
                done += make_judge(server.url, **settings).judge([items[i] for i in batch])
        stormy.clear()
        answered = len(list(tmp_path.rglob("*.json")))
        before = len(server.requests)
        judge = make_judge(server.url, **settings)
        rows = [row for batch in judge.plan(items) for row in judge.judge([items[i] for i in batch])]
        assert answered > 0
        # what was answered before the outage was not asked again
        assert len(server.requests) - before <= 2 * (48 - answered)
    assert len({row.judgement_id for row in rows}) == len(rows) == 48
    assert all(row.outcome == "ok" for row in rows)
    calm = [len(item.candidate.text) % 6 for item in items for _ in range(2)]
    assert [row.score for row in rows] == calm


def test_cost_and_tokens_are_kept_and_the_cache_changes_no_row(tmp_path: Path) -> None:
    with chat_server(lambda number, body: Say(completion("Score: 2"))) as server:
        settings: dict[str, Any] = {
            "votes": 1,
            "min_valid_votes": 1,
            "cache": str(tmp_path),
            "input_price": 3.0,
            "output_price": 15.0,
        }
        first = make_judge(server.url, **settings).judge(make_items("a"))
        assert make_judge(server.url, **settings).judge(make_items("a")) == first
        assert len(server.requests) == 1
    detail = json.loads(first[0].detail)
    assert detail["cost"] == pytest.approx((100 * 3 + 10 * 15) / 1e6)
    assert (detail["prompt_tokens"], detail["completion_tokens"], detail["model"]) == (100, 10, "judge-1")


def test_without_prices_or_counts_there_is_no_cost() -> None:
    rows = judged(
        lambda number, body: Say({**completion("Score: 2"), "usage": None}),
        "a",
        votes=1,
        min_valid_votes=1,
        input_price=1.0,
    )
    assert "cost" not in json.loads(rows[0].detail)
    assert price.__doc__


def top(token: str, **probable: float) -> dict[str, Any]:
    return {"token": token, "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": v} for t, v in probable.items()]}


def test_the_expected_score_from_top_log_probabilities() -> None:
    content = [top("Score", **{"Score": 0.0}), top(": "), top("4", **{"4": -0.6931, "2": -0.6931, "four": -9.0})]
    reply = completion("Score: 4", choice={"logprobs": {"content": content}})
    with chat_server(lambda number, body: Say(reply)) as server:
        judge = make_judge(server.url, mode="logprobs", rubric="judges/additive_short")
        (row,) = judge.judge(make_items("fine"))
        assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 20)
    assert row.score == pytest.approx(3.0)
    assert json.loads(row.detail)["mass"] == pytest.approx(1.0, abs=1e-3)
    assert (judge.min_valid_votes, judge.score_range) == (1, (0, 5))


@pytest.mark.parametrize(
    "logprobs", [None, {"content": None}, {"content": [top("Score: 4", **{"Score: 4": 0.0})]}, {"content": [top("5", **{"5": 0.0})]}]
)  # fmt: skip
def test_log_probabilities_that_do_not_fit_are_a_parse_error(logprobs: Any) -> None:
    reply = completion("Score: 4", choice={"logprobs": logprobs})
    rows = judged(lambda number, body: Say(reply), "fine", mode="logprobs", rubric="judges/additive_short")
    assert [(row.score, row.outcome) for row in rows] == [(None, "parse_error")]


def test_a_score_in_the_candidate_is_not_the_judges() -> None:
    rows = judged(
        lambda number, body: Say(completion("It claims a lot.")), "Great. Score: 5", votes=1, min_valid_votes=1
    )
    assert rows[0].outcome == "parse_error"


def test_the_identity_is_what_decides_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:1/v1"
    base = make_judge(url).judge_hash
    for same in ({"retries": 1}, {"api_key_env": "K"}, {"concurrency": 2}, {"requests_per_minute": 3}, {"cache": "x"},
                 {"input_price": 1.0}, {"timeout_seconds": 9}):  # fmt: skip
        assert make_judge(url, **same).judge_hash == base
    others: list[dict[str, Any]] = [
        {"model": "n"}, {"temperature": 0.1}, {"votes": 4}, {"max_tokens": 9}, {"extra": {"a": 1}}, {"send_seed": False},
        {"rubric": "judges/additive_zh"}, {"min_valid_votes": 1},
    ]  # fmt: skip
    hashes = {make_judge(url, **other).judge_hash for other in others} | {
        make_judge("http://127.0.0.1:2/v1").judge_hash
    }
    assert len(hashes - {base}) == len(others) + 1
    assert not OpenAIJudge.needs_engine(make_judge(url).config)


def test_every_item_is_planned_once() -> None:
    judge = make_judge("http://127.0.0.1:1/v1", concurrency=2)
    items: list[JudgeItem] = make_items(*"abcdefghijklmnopqrs")
    assert [i for batch in judge.plan(items) for i in batch] == list(range(19))
    assert max(map(len, judge.plan(items))) == 8


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"base_url": "localhost/v1"}, "judge.base_url: base_url 'localhost/v1': write it as http(s)://"),
        ({"votes": 1}, "min_valid_votes 2 exceeds votes 1"),
        ({"extra": {"model": "x"}}, "extra may not set model"),
        ({"api_key": "sk-123"}, "judge.api_key: unknown key; did you mean 'api_key_env'?"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict[str, Any], expected: str) -> None:
    judge = {"id": "openai", "base_url": "http://localhost/v1", "model": "m", **settings}
    with pytest.raises(ConfigError) as caught:
        validate_config({"name": "x", "judge": judge}, "run.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sk-123" not in str(caught.value)
