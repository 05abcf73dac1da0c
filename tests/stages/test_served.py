"""Candidates that a server sampled: what a stage asks for, what its rows say, and what verify makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfalign.checks.chain import chain
from selfalign.checks.content import digests, ids
from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.plan import _engines
from selfalign.progress import Silent
from selfalign.stages import generate
from selfalign.stages.context import RunContext
from selfalign.stages.engine import check_engine
from selfalign.stages.generate import engine_spec, held_out_answers, training_candidates
from selfalign.stages.jobs import JobFolder
from selfalign.store.arrow import from_table
from selfalign.store.store import Store
from selfalign.types import Candidate, Event
from selfalign.workspace import Workspace
from tests.endpoints.server import ChatServer, Say, chat_server, completion
from tests.judges.scripted import make_prompt

PROMPTS = [make_prompt(f"p{n}", f"Say {n}.") for n in range(3)]
#: A server without log-probabilities: the rows' are NaN, and go through the store as such.
SERVER = {"id": "openai", "model": "teacher", "off_policy": True, "logprobs": False, "first_delay_seconds": 0}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Every fifth request fails."""
    trouble = Say({"error": "busy"}, 503)
    with chat_server(
        lambda number, body: trouble if number % 5 == 4 else Say(completion(f"an answer, {body['seed']}"))
    ) as server:
        yield server


def context_for(folder: Path, policy: Path, **engine: Any) -> RunContext:
    settings = {
        "name": "x", "seed": 3, "model": str(policy), "dtype": "float32", "device": "cpu",
        "generate": {"candidates": 4, "max_tokens": 40, "engine": {**SERVER, "cache": str(folder / "replies"), **engine}},
    }  # fmt: skip
    workspace = Workspace(folder / "run")
    workspace.create()
    store = Store(workspace.store_path)
    store.create()
    return RunContext(validate_config(settings, "test"), workspace, store, Silent())


def made(context: RunContext, folder: Path, done: list[str]) -> tuple[dict[str, Any], list[Candidate], list[Event]]:
    spec = generate._spec(context, 1, training_candidates(context, 1), context.model(0), done)
    job = JobFolder(folder)
    folder.mkdir()
    job.prepare(spec, {"prompts": PROMPTS})
    generate.work(job)
    tables = [tables for _, tables in job.collect()]
    return (
        spec,
        [row for found in tables for row in from_table(Candidate, found["candidates"])],
        [row for found in tables if "events" in found for row in from_table(Event, found["events"])],
    )


def test_rows_name_the_server_and_verify_agrees(server: ChatServer, tiny_model: Path, tmp_path: Path) -> None:
    context = context_for(tmp_path, tiny_model, base_url=server.url)
    _, rows, events = made(context, tmp_path / "job", [])
    assert len(rows) == len({row.candidate_id for row in rows}) == 12, "none lost, none doubled"
    assert {(row.weights_hash, row.engine) for row in rows} == {("served:teacher", "openai")}
    assert {row.text for row in rows} == {f"an answer, {row.seed % 2**31}" for row in rows}
    assert [event.kind for event in events] == ["served_by"]

    store, weights = context.store, hash_weights(tiny_model)
    store.put_run(
        "x", seed=3, config=json.dumps(context.config.snapshot()), config_hash="", environment="{}", version="0"
    )
    store.put_round(0, weights_hash=weights, tokenizer_hash=hash_tokenizer(tiny_model), status="done")
    store.put_round(1, parent_hash=weights, weights_hash=weights, status="running")
    store.insert([*PROMPTS, *rows])
    run = {"seed": 3, "config": json.dumps(context.config.snapshot())}
    assert [f for f in chain(store.query) if f.table == "candidates"] == []
    assert ids(store.query, run) == [] and digests(store.query)[0] == []

    # What claims to be the policy's held-out answer may not come from a server.
    store.insert([replace(rows[0], candidate_id="h", split="held_out")])
    assert [(f.check, f.row_id) for f in chain(store.query) if f.table == "candidates"] == [
        ("made_by_other_weights", "h")
    ]


def test_what_is_made_again_is_not_asked_again(server: ChatServer, tiny_model: Path, tmp_path: Path) -> None:
    context = context_for(tmp_path, tiny_model, base_url=server.url)
    _, rows, _ = made(context, tmp_path / "first", [])
    asked = len(server.requests)
    _, again, _ = made(context, tmp_path / "second", [row.candidate_id for row in rows[:5]])
    assert {row.candidate_id: row.text for row in again}.items() <= {row.candidate_id: row.text for row in rows}.items()
    assert len(server.requests) == asked


def test_the_policy_answers_for_itself(tiny_model: Path, tmp_path: Path) -> None:
    context = context_for(
        tmp_path, tiny_model, base_url="http://127.0.0.1:9/v1", own={"id": "transformers", "max_rows": 5}
    )
    model = context.model(0)
    held_out = generate._spec(context, 0, held_out_answers(context, 0), model, [])
    for spec in (held_out, engine_spec(context, model)):
        assert (spec["engine"]["id"], spec["engine"]["max_rows"]) == ("transformers", 5)
        assert spec["weights_hash"] == hash_weights(tiny_model)
    train = generate._spec(context, 1, training_candidates(context, 1), model, [])
    assert (train["engine"]["id"], train["weights_hash"]) == ("openai", "served:teacher")


def test_how_it_is_asked_makes_no_stage_stale(tiny_model: Path, tmp_path: Path) -> None:
    def fingerprints(name: str, **engine: Any) -> tuple[str, str]:
        context = context_for(tmp_path / name, tiny_model, base_url="http://127.0.0.1:9/v1", **engine)
        for round in (0, 1):
            context.store.start_stage(round, "prompts", "f")
            context.store.finish_stage(round, "prompts", "f", rows_in=0, rows_out=0)
        return (
            generate.fingerprint(context, 1, training_candidates(context, 1)),
            generate.fingerprint(context, 0, held_out_answers(context, 0)),
        )

    train, answer = fingerprints("first", concurrency=4)
    assert fingerprints("second", concurrency=9, retries=1) == (train, answer)
    other = fingerprints("third", model="another")
    assert other[0] != train and other[1] == answer


def test_a_missing_key_and_a_missing_library_are_found_before_any_work(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SELFALIGN_TEST_KEY", raising=False)
    context = context_for(tmp_path, tiny_model, base_url="http://127.0.0.1:9/v1", api_key_env="SELFALIGN_TEST_KEY")
    with pytest.raises(ConfigError, match="SELFALIGN_TEST_KEY is not set"):
        check_engine(context.config)
    monkeypatch.setattr("selfalign.engines.vllm_install.installed_build", lambda: None)
    for engine in ({"id": "vllm"}, {**SERVER, "base_url": "http://127.0.0.1:9/v1", "own": "vllm"}):
        config = validate_config({"name": "x", "device": "cpu", "generate": {"engine": engine}}, "test")
        with pytest.raises(ConfigError, match="vllm is not installed"):
            check_engine(config)
    check_engine(validate_config({"name": "x", "generate": {"engine": "auto"}}, "test"))


def test_the_plan_says_which_engine_and_why(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.engines.vllm_install.installed_build", lambda: None)
    context = context_for(tmp_path, tiny_model, base_url="http://127.0.0.1:9/v1", own="auto")
    assert _engines(context.config) == [
        {"for": "sampling for training", "engine": "openai", "why": "the config names it"},
        {"for": "the policy's own answers, judging", "engine": "transformers", "why": "vllm is not installed"},
    ]
