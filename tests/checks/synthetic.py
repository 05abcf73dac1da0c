"""A finished run of one round that never ran: every row as the stages would write it, for any number of prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfalign.config import validate_config
from selfalign.identity import canonical, content_id, hash_tokenizer, hash_weights
from selfalign.stages.generate import candidate_id, seed_of
from selfalign.store.store import Store
from selfalign.training.checkpoints import folder_bytes
from selfalign.types import Candidate, Checkpoint, Evaluation, Judgement, Pair, Prompt, Row, SamplingParams, Split
from selfalign.workspace import Workspace
from tests.tiny_model import make_tiny_model

SAMPLES = 4
_JUDGE, _VERIFIER = content_id("judge", "rubric"), content_id("judge", "verifier")
#: The texts that break naive canonical forms: quotes, control characters, other scripts, an empty line.
_AWKWARD = ('say "no" \\ twice', "tab\there\x1f\x0b\x7f", "床前明月光 é \U0001f600", "a\n\n\x00b\u2028")


def make_run(folder: Path, prompts: int, *, text: str = "words of an answer", batch: int = 50_000) -> Workspace:
    """A workspace with round 0 and round 1, ``prompts`` training prompts with 4 candidates each, and real weights."""
    workspace = Workspace(folder / "runs" / "made")
    workspace.create()
    m0 = make_tiny_model(folder / "model", seed=0)
    m1 = make_tiny_model(workspace.checkpoints / "round-1", seed=1)
    w0, w1, tokenizer = hash_weights(m0), hash_weights(m1), hash_tokenizer(m0)
    store = Store(workspace.store_path)
    store.create()
    config = validate_config(
        {
            "name": "made", "seed": 11, "model": str(m0.resolve()), "rounds": 1, "calibrate": {"enabled": "never"},
            "gates": [],
        },
        "made",
    )  # fmt: skip
    store.put_run(
        "made", seed=11, config=json.dumps(config.snapshot()), config_hash=config.config_hash(), environment="{}",
        version="0",
    )  # fmt: skip

    held_out = [_prompt(i, 0, "held_out") for i in range(5)]
    train = [_prompt(i, 1, "train") for i in range(prompts)]
    rows: dict[str, int] = {}

    def put(stage: tuple[int, str], rows_in: int, made: Iterator[Row] | Sequence[Row]) -> None:
        store.start_stage(*stage, fingerprint="f")
        count, waiting = 0, []
        for row in made:
            waiting.append(row)
            if len(waiting) == batch:
                count += store.insert(waiting)
                waiting.clear()
        count += store.insert(waiting)
        store.finish_stage(*stage, "f", rows_in=rows_in, rows_out=count)
        rows[f"{stage[0]}/{stage[1]}"] = count

    store.put_round(0, weights_hash=w0, status="running")
    put((0, "prompts"), len(held_out), held_out)
    put((0, "answer"), len(held_out), _candidates(held_out, 0, "held_out", w0, tokenizer, 1, text))
    put((0, "evaluate"), len(held_out), [_figure(0)])
    store.put_round(0, status="done")

    store.put_round(1, parent_hash=w0, status="running")
    put((1, "prompts"), prompts, train)
    put((1, "generate"), prompts, _candidates(train, 1, "train", w0, tokenizer, SAMPLES, text))
    put((1, "judge"), SAMPLES * prompts, _judgements(train, w0, tokenizer))
    put((1, "pair"), prompts, _pairs(train, w0, tokenizer))
    put((1, "train"), prompts, [_checkpoint(workspace, m1, w0, w1, tokenizer, prompts)])
    store.put_round(1, weights_hash=w1, trainer="dpo", reference_hash=w0)
    put((1, "answer"), len(held_out), _candidates(held_out, 1, "held_out", w1, tokenizer, 1, text))
    store.insert([_figure(1, "log_ratio_vs_m0")])
    store.start_stage(1, "log_ratio", "f")
    store.finish_stage(1, "log_ratio", "f", rows_in=5, rows_out=1)
    put((1, "evaluate"), len(held_out), [_figure(1)])
    store.put_round(1, status="done")
    with store.write() as transaction:
        transaction.execute("UPDATE rounds SET tokenizer_hash = ?", [tokenizer])
    return workspace


def _prompt(number: int, round: int, split: Split) -> Prompt:
    text = f"{split} prompt {number}: {_AWKWARD[number % len(_AWKWARD)]}"
    ids = ("punctuation:no_comma",) if number % 3 == 0 else ()
    kwargs = canonical([{} for _ in ids])
    return Prompt(
        content_id("prompt", text, list(ids), kwargs), round, split, text, "en", "", f"made:{number}", None, None, ids,
        kwargs,
    )  # fmt: skip


def _spec(round: int, split: Split, weights: str, tokenizer: str) -> dict[str, Any]:
    return {
        "round": round, "split": split, "weights_hash": weights, "tokenizer_hash": tokenizer, "run_seed": 11,
        "params": asdict(_params(split)), "system_prompt": None,
    }  # fmt: skip


def _params(split: Split) -> SamplingParams:
    return SamplingParams(0.7, 0.9, 0, 64) if split == "train" else SamplingParams(0.0, 1.0, 0, 64)


def _candidates(
    prompts: Sequence[Prompt], round: int, split: Split, weights: str, tokenizer: str, samples: int, text: str
) -> Iterator[Candidate]:
    spec, params = _spec(round, split, weights, tokenizer), _params(split)
    for number, prompt in enumerate(prompts):
        for sample in range(samples):
            yield Candidate(
                candidate_id(spec, prompt, sample), prompt.prompt_id, round, split, sample, weights, "transformers",
                params.temperature, params.top_p, params.top_k, params.max_tokens, seed_of(spec, prompt, sample),
                f"{text} {sample} {_AWKWARD[number % len(_AWKWARD)]}", tuple(range(sample, sample + 48)), 48, 9, "stop",
                2, -(number + sample) / 7,
            )  # fmt: skip


def _judgements(prompts: Sequence[Prompt], weights: str, tokenizer: str) -> Iterator[Judgement]:
    spec = _spec(1, "train", weights, tokenizer)
    for prompt in prompts:
        for sample in range(SAMPLES):
            candidate = candidate_id(spec, prompt, sample)
            yield Judgement(
                content_id("judgement", candidate, _JUDGE, weights, 0), candidate, 1, "rubric", _JUDGE, weights, 0,
                sample / 3, "ok", f"I give it {sample}.\nScore: {sample}", 5, "{}",
            )  # fmt: skip


def _pairs(prompts: Sequence[Prompt], weights: str, tokenizer: str) -> Iterator[Pair]:
    spec = _spec(1, "train", weights, tokenizer)
    for prompt in prompts:
        chosen, rejected = candidate_id(spec, prompt, SAMPLES - 1), candidate_id(spec, prompt, 0)
        yield Pair(
            content_id("pair", chosen, rejected), prompt.prompt_id, 1, chosen, rejected, 1.0, 0.0, 1.0, "rubric",
            "max_min", 1, 1.0,
        )  # fmt: skip


def _checkpoint(workspace: Workspace, folder: Path, w0: str, w1: str, tokenizer: str, examples: int) -> Checkpoint:
    row = Checkpoint(
        content_id("checkpoint", 1, w1, tokenizer), 1, w0, w1, str(folder.relative_to(workspace.path)), "dpo", "full",
        w0, examples, folder_bytes(folder), "{}", "{}",
    )  # fmt: skip
    (folder / "selfalign.json").write_text(json.dumps({"fingerprint": "f", "checkpoint": asdict(row)}))
    return row


def _figure(round: int, metric: str = "pass_rate_strict") -> Evaluation:
    return Evaluation("made", round, metric, "held_out", 0.5, None, None, 5, "{}")
