"""Against a real server on loopback whose behaviour each test writes down."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from selfalign.config import validate_config
from selfalign.engines.openai_engine import OpenAIEngine
from selfalign.errors import BadInput, ConfigError, EndpointDown, StageFailed
from selfalign.types import Completion, GenerationRequest, SamplingParams
from tests.endpoints.server import Say, Script, chat_server, completion

PARAMS = SamplingParams(temperature=0.8, top_p=0.9, max_tokens=24)


def engine_for(url: str, model: Path, events: list[tuple[str, str]] | None = None, **more: Any) -> OpenAIEngine:
    values = {"first_delay_seconds": 0, "timeout_seconds": 5, "cache": False, "off_policy": True, **more}
    config = OpenAIEngine.Config.model_validate({"base_url": url, "model": "teacher", **values})
    told = (lambda kind, message: events.append((kind, message))) if events is not None else None
    return OpenAIEngine(config, model, device="cpu", on_event=told)


def requests(prompts: int = 3, samples: int = 4) -> list[GenerationRequest]:
    return [
        GenerationRequest(f"p{n}", ({"role": "user", "content": f"Prompt {n}"},), tuple(1000 * n + j for j in range(samples)))
        for n in range(prompts)
    ]  # fmt: skip


def answer(text: str, finish: str = "stop", *log_probs: float) -> dict[str, Any]:
    tokens = [{"token": letter, "logprob": value} for letter, value in zip(text, log_probs, strict=False)]
    return completion(text, finish, choice={"logprobs": {"content": tokens}})


def echo(body: dict[str, Any]) -> dict[str, Any]:
    """An answer that says which prompt and seed it is for."""
    text = f"{body['messages'][-1]['content'][-1]}:{body['seed']}"
    return answer(text, "stop", *[-0.5] * len(text))


def sampled(script: Script, model: Path, **more: Any) -> list[tuple[Completion, ...]]:
    with chat_server(script) as server:
        return engine_for(server.url, model, **more).generate(requests(), PARAMS)


EVERY = [[f"{n}:{1000 * n + j}" for j in range(4)] for n in range(3)]


def test_every_sample_is_asked_for_once_with_its_seed(tiny_model: Path) -> None:
    events: list[tuple[str, str]] = []
    with chat_server(lambda number, body: Say(echo(body))) as server:
        engine = engine_for(server.url, tiny_model, events, extra={"min_p": 0.1})
        found = engine.generate(requests(), SamplingParams(0.8, 0.9, 7, 24))
        engine.close()
    assert [[c.text for c in group] for group in found] == EVERY
    assert len(server.requests) == 12
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["top_p"], body["top_k"], body["max_tokens"], body["min_p"]) == (
        "teacher", 0.8, 0.9, 7, 24, 0.1,
    )  # fmt: skip
    first = found[0][0]
    assert first.token_ids == engine.encode_text("0:0") and first.finish_reason == "stop"
    assert first.end_token_id == engine._tokenizer.eos_token_id
    assert first.logprob == pytest.approx(-0.5 * 3)
    assert first.n_prompt_tokens == len(engine.encode_prompt(requests()[0].messages))
    assert [kind for kind, _ in events] == ["served_by"] and "'teacher' answers as 'judge-1'" in events[0][1]


@pytest.mark.parametrize(
    "trouble",
    [
        Say({"error": {"message": "oops"}}, 500),
        Say({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.05"}),
        Say(b'{"choices": [', 200),
        Say(completion("half of this"), 200, drop=True),
    ],
    ids=["error", "busy", "malformed", "dropped"],
)
def test_trouble_loses_no_sample_and_doubles_none(trouble: Say, tiny_model: Path) -> None:
    """Every second request goes wrong the first time."""
    seen: set[tuple[str, int]] = set()
    lock = threading.Lock()

    def script(number: int, body: dict[str, Any]) -> Say:
        key = (body["messages"][-1]["content"], body["seed"])
        with lock:
            again = key in seen
            seen.add(key)
        return trouble if body["seed"] % 2 and not again else Say(echo(body))

    found = sampled(script, tiny_model, longest_delay_seconds=1)
    assert [[c.text for c in group] for group in found] == EVERY


def test_tokens_are_told_as_replies_come(tiny_model: Path) -> None:
    told = list[tuple[int, int]]()
    with chat_server(lambda number, body: Say(echo(body))) as server:
        engine = engine_for(server.url, tiny_model)
        engine.on_tokens = lambda tokens, ended: told.append((tokens, ended))
        engine.generate(requests(), PARAMS)
    # By the server's own count.
    assert told == [(10, 1)] * 12


def test_a_slow_server_is_asked_again(tiny_model: Path) -> None:
    never = threading.Event()
    script = lambda number, body: Say(echo(body), wait=never if number == 0 else None)  # noqa: E731
    found = sampled(script, tiny_model, timeout_seconds=0.3)
    never.set()
    assert [[c.text for c in group] for group in found] == EVERY


def test_after_an_outage_nothing_is_asked_twice(tiny_model: Path, tmp_path: Path) -> None:
    down = threading.Event()
    down.set()
    script = lambda number, body: Say(b"", 503) if number >= 5 and down.is_set() else Say(echo(body))  # noqa: E731
    with chat_server(script) as server:
        settings = {"cache": str(tmp_path / "replies"), "retries": 0, "concurrency": 1}
        with pytest.raises(EndpointDown, match="what was answered is kept"):
            engine_for(server.url, tiny_model, **settings).generate(requests(), PARAMS)
        down.clear()
        failed = len(server.requests) - 5
        found = engine_for(server.url, tiny_model, **settings).generate(requests(), PARAMS)
        assert len(server.requests) == 12 + failed
    assert [[c.text for c in group] for group in found] == EVERY


def test_no_more_requests_at_once_than_allowed(tiny_model: Path) -> None:
    under_way, most, lock, enough = 0, 0, threading.Lock(), threading.Event()

    def script(number: int, body: dict[str, Any]) -> Say:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        enough.wait(0.02)
        with lock:
            under_way -= 1
        return Say(echo(body))

    sampled(script, tiny_model, concurrency=3)
    assert most == 3


@pytest.mark.parametrize(
    ("reply", "ids", "reason"),
    [
        (answer("abc", "length", -1.0, -1.0, -1.0), b"abc", "length"),
        # 30 tokens of ours are cut as the policy would have been.
        (answer("x" * 30, "stop", *[-1.0] * 30), b"x" * 24, "length"),
        (answer("", "stop"), b"", "stop"),
    ],
)
def test_endings(reply: Any, ids: bytes, reason: str, tiny_model: Path) -> None:
    (found, *_), *_ = sampled(lambda number, body: Say(reply), tiny_model)
    engine = engine_for("http://127.0.0.1:9/v1", tiny_model)
    assert found.text.encode() == ids and found.token_ids == engine.encode_text(found.text)
    assert found.finish_reason == reason and (found.end_token_id is None) == (reason == "length")


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say(completion(None, message={"refusal": "I will not."})), "no answer to train on .*I will not"),
        (Say(answer("abc", "content_filter", -1, -1, -1)), "no answer to train on .*content_filter"),
        (Say(answer("abc", "tool_calls", -1, -1, -1)), "finish_reason 'tool_calls'"),
        (Say({"choices": []}), "no answer to train on"),
        (Say(completion("abc")), "set generate.engine.logprobs: false"),
        (
            Say({"error": {"code": "context_length_exceeded"}}, 400),
            "does not take request p0 .*context_length_exceeded",
        ),
        (Say({"error": {"message": "no such model"}}, 404), "check base_url and model"),
    ],
)
def test_what_is_no_answer_stops_the_stage(say: Say, message: str, tiny_model: Path) -> None:
    with pytest.raises(StageFailed, match=message) as caught:
        sampled(lambda number, body: say, tiny_model)
    assert "\n" not in str(caught.value)


def test_without_log_probabilities_there_is_none_and_seeds_need_not_be_sent(tiny_model: Path, tmp_path: Path) -> None:
    with chat_server(lambda number, body: Say(completion(f"answer {number}"))) as server:
        engine = engine_for(server.url, tiny_model, logprobs=False, send_seed=False, cache=str(tmp_path))
        found = engine.generate(requests(1), PARAMS)
        assert [math.isnan(c.logprob) for c in found[0]] == [True] * 4
        assert len({c.text for c in found[0]}) == 4, "the cache keeps samples of one question apart"
        assert not {"seed", "logprobs"} & server.requests[0].keys()
        assert engine.generate(requests(1), PARAMS)[0][0].text == found[0][0].text
        assert len(server.requests) == 4


def test_it_names_its_server_and_cannot_be_taken_for_the_policy(tiny_model: Path) -> None:
    engine = engine_for("http://127.0.0.1:9/v1", tiny_model)
    assert engine.weights_hash == "served:teacher"
    with pytest.raises(ConfigError, match="judge 'openai' with mode: logprobs"):
        engine.score_choices([(5,)], ["a"])
    with pytest.raises(ConfigError, match=r"read with generate\.engine\.own"):
        engine.log_probs([])
    with pytest.raises(BadInput, match=r"request p0: .* of max_tokens exceed"):
        engine.generate(requests(1), SamplingParams(max_tokens=1024))


SERVER = {"id": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "teacher"}


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ({"engine": SERVER}, "whose weights nobody can hash.*set off_policy: true"),
        (
            {"engine": {**SERVER, "off_policy": True}, "demonstrations": True},
            "generate.demonstrations needs the policy's",
        ),
        ({"engine": {**SERVER, "off_policy": True, "own": SERVER}}, "own: must be an engine that loads"),
        ({"engine": {**SERVER, "off_policy": True, "own": "vlm"}}, "unknown engine 'vlm'; did you mean 'vllm'"),
        ({"engine": {**SERVER, "extra": {"seed": 1}}}, "extra may not set seed"),
        ({"engine": {**SERVER, "base_url": "localhost:8000"}}, "http"),
    ],
)
def test_configs_that_cannot_be_meant(generate: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config({"name": "x", "generate": generate}, "test")


def test_a_config_survives_its_own_dump() -> None:
    given = {**SERVER, "off_policy": True, "own": {"id": "transformers", "max_rows": 5}}
    config = validate_config({"name": "x", "generate": {"engine": given}}, "test")
    again = validate_config(config.snapshot(), "test")
    assert again == config and again.generate.engine.own.max_rows == 5
    assert (
        config.generate.engine.decides()
        == validate_config(
            {"name": "x", "generate": {"engine": {**given, "concurrency": 3, "retries": 1, "api_key_env": "K"}}}, "test"
        ).generate.engine.decides()
    )
