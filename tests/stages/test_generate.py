"""What the stage process of ``generate`` hands over beside plain samples: both sides of a contrast, demonstrations."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from selfalign.checks.content import ids
from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.stages import generate
from selfalign.stages.jobs import JobFolder
from selfalign.store.arrow import from_table
from selfalign.store.store import Store
from selfalign.templates import shipped_prompts
from selfalign.types import Candidate, Prompt, SamplingParams, TokenSequence
from tests.judges.scripted import make_prompt

PROMPTS = [
    make_prompt("p0", "Say hello."),
    replace(make_prompt("p1", "Name a colour."), answer="Blue, 蓝色."),
    replace(make_prompt("p2", "Count."), answer="One, two."),
]


def spec_for(model: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "generate", "round": 1, "run_seed": 3, "split": "train", "samples": 2,
        "params": asdict(SamplingParams(1.0, 1.0, 0, 6)), "system_prompt": None, "contrast": None,
        "demonstrations": False, "templates": [str(shipped_prompts())], "model": str(model),
        "weights_hash": hash_weights(model), "tokenizer_hash": hash_tokenizer(model),
        "engine": {"id": "transformers", "max_rows": 4}, "dtype": "float32", "device": "cpu",
        "trust_remote_code": False, "done": [], **changes,
    }  # fmt: skip


def made(folder: Path, spec: dict[str, Any]) -> list[Candidate]:
    job = JobFolder(folder)
    folder.mkdir()
    job.prepare(spec, {"prompts": PROMPTS})
    generate.work(job)
    return [row for _, tables in job.collect() for row in from_table(Candidate, tables["candidates"])]


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Candidate]:
    """Two samples a prompt, one for each side, and two demonstrations."""
    sides = {"positive": "contrast/helpful", "negative": "contrast/unhelpful"}
    folder = tmp_path_factory.mktemp("generate") / "job"
    return made(folder, spec_for(tiny_model, contrast=sides, demonstrations=True))


def test_a_demonstration_is_the_prompts_answer_as_the_policy_reads_it(rows: list[Candidate], tiny_model: Path) -> None:
    known = {row.prompt_id: row for row in rows if row.origin == "demonstration"}
    assert set(known) == {"p1", "p2"}
    engine = TransformersEngine(TransformersEngine.Config(), tiny_model, dtype="float32", device="cpu")
    for prompt in PROMPTS[1:]:
        row = known[prompt.prompt_id]
        assert row.text == prompt.answer
        assert (row.sample_idx, row.weights_hash, row.engine, row.finish_reason) == (-1, "", "demonstration", "stop")
        assert row.n_tokens == len(str(prompt.answer).encode()), "the tiny tokenizer has a token a byte"
        shown = engine.encode_prompt([{"role": "user", "content": prompt.text}])
        assert engine.encode_prompt([{"role": "user", "content": prompt.text}], row.text) == shown + row.token_ids
        assert row.end_token_id in engine.end_token_ids
        (values,) = engine.log_probs([TokenSequence(shown, row.sampled_ids)])
        assert row.logprob == pytest.approx(float(values.sum()), abs=1e-4)


def test_each_side_has_its_samples_and_the_prompt_stays_as_it_was(rows: list[Candidate]) -> None:
    by_side = defaultdict(list)
    for row in rows:
        by_side[row.origin].append((row.prompt_id, row.sample_idx))
    assert sorted(by_side["positive"]) == [("p0", 0), ("p1", 0), ("p2", 0)]
    assert sorted(by_side["negative"]) == [("p0", 1), ("p1", 1), ("p2", 1)]
    longer = {row.prompt_id: row.n_prompt_tokens for row in rows if row.origin == "positive"}
    known = {row.prompt_id: row.n_prompt_tokens for row in rows if row.origin == "demonstration"}
    assert all(longer[prompt_id] > length for prompt_id, length in known.items())
    assert len({row.candidate_id for row in rows}) == len(rows) == 8


def test_what_is_there_is_not_made_again(rows: list[Candidate], tiny_model: Path, tmp_path: Path) -> None:
    sides = {"positive": "contrast/helpful", "negative": "contrast/unhelpful"}
    spec = spec_for(tiny_model, contrast=sides, demonstrations=True)
    assert made(tmp_path / "done", {**spec, "done": [row.candidate_id for row in rows]}) == []
    samples = [row.candidate_id for row in rows if row.origin != "demonstration"]
    again = made(tmp_path / "known", {**spec, "done": samples})
    assert sorted(row.candidate_id for row in again) == sorted(
        row.candidate_id for row in rows if row.origin == "demonstration"
    )
    for name, before in {"done": 8, "known": 6}.items():
        progress = JobFolder(tmp_path / name).progress()
        assert progress is not None and (progress.done, progress.total, progress.before) == (8, 8, before)


def test_verify_knows_their_ids(rows: list[Candidate], tiny_model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.duckdb")
    store.create()
    store.put_round(0, weights_hash=hash_weights(tiny_model), tokenizer_hash=hash_tokenizer(tiny_model), status="done")
    store.put_round(1, parent_hash=hash_weights(tiny_model), status="running")
    plain = made(tmp_path / "plain", spec_for(tiny_model))
    kept: list[Prompt | Candidate] = [*PROMPTS, *plain, *(row for row in rows if row.origin == "demonstration")]
    store.insert(kept)
    run = {"seed": 3, "config": "{}"}
    assert ids(store.query, run) == []
    with store.write() as transaction:
        transaction.execute("UPDATE candidates SET text = 'Red.' WHERE origin = 'demonstration' AND prompt_id = 'p1'")
    assert [finding.check for finding in ids(store.query, run)] == ["candidate_id"]
