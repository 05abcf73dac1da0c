"""Stages ``generate`` (training candidates of M_{t-1}) and ``answer`` (held-out answers of M_t)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfalign.identity import content_id, derive_seed
from selfalign.stages.context import Model, RunContext
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.loading import Notes, load_engine
from selfalign.stages.supervise import collect, supervise
from selfalign.types import Candidate, Completion, GenerationRequest, Message, Prompt, SamplingParams, Split


@dataclass(frozen=True)
class Sampling:
    """Who answers which prompts, how often and how."""

    stage: str
    split: Split
    model_round: int
    prompt_round: int
    samples: int
    params: SamplingParams


def training_candidates(context: RunContext, round: int) -> Sampling:
    settings = context.config.generate
    params = SamplingParams(settings.temperature, settings.top_p, settings.top_k, settings.max_tokens)
    return Sampling("generate", "train", round - 1, round, settings.candidates, params)


def held_out_answers(context: RunContext, round: int) -> Sampling:
    settings, generate = context.config.evaluate, context.config.generate
    params = SamplingParams(settings.temperature, settings.top_p, 0, settings.max_tokens or generate.max_tokens)
    return Sampling("answer", "held_out", round, 0, settings.samples, params)


def fingerprint(context: RunContext, round: int, sampling: Sampling) -> str:
    model = context.model(sampling.model_round)
    return content_id(
        sampling.stage, upstream(context, sampling.prompt_round, "prompts"), model.weights_hash, model.tokenizer_hash,
        sampling.samples, asdict(sampling.params), context.config.generate.system_prompt,
        context.config.generate.engine.model_dump(mode="json"), context.config.dtype,
    )  # fmt: skip


def run(context: RunContext, round: int, sampling: Sampling) -> StageOutcome:
    folder = context.job(round, sampling.stage)
    collect(folder, context.store)
    prompts = context.store.rows(Prompt, "round = ? and split = ?", (sampling.prompt_round, sampling.split))
    where, values = "round = ? and split = ?", (round, sampling.split)
    done = context.store.query(f"select candidate_id from candidates where {where}", values)["candidate_id"].to_pylist()
    model = context.model(sampling.model_round)
    expected = len(prompts) * sampling.samples
    if len(done) < expected:
        supervise(
            folder, _spec(context, round, sampling, model, done), {"prompts": prompts},
            workspace=context.workspace, store=context.store, reporter=context.reporter,
            label=f"round {round} {sampling.stage}", timeout_s=context.config.execution.stage_timeout_seconds,
        )  # fmt: skip
    figures = context.store.query(
        f"select count(*) n, sum(n_tokens) tokens, avg(n_tokens) mean, avg((finish_reason = 'length')::double) cut "
        f"from candidates where {where}",
        values,
    ).to_pylist()[0]
    summary = (
        f"{figures['n']} answers to {len(prompts)} prompts, {figures['mean']:.0f} tokens on average, "
        f"{figures['cut']:.0%} cut at max_tokens"
    )
    return StageOutcome(
        len(prompts), figures["n"], summary, {"tokens": int(figures["tokens"]), "truncated": figures["cut"]}
    )


def _spec(context: RunContext, round: int, sampling: Sampling, model: Model, done: list[str]) -> dict[str, Any]:
    return {
        "kind": "generate",
        "round": round,
        "run_seed": context.config.seed,
        "split": sampling.split,
        "samples": sampling.samples,
        "params": asdict(sampling.params),
        "system_prompt": context.config.generate.system_prompt,
        **engine_spec(context, model),
        "done": done,
    }


def engine_spec(context: RunContext, model: Model) -> dict[str, Any]:
    """What a stage process needs to load a model and to prove that it is the right one."""
    return {
        "model": str(model.path.resolve()),
        "weights_hash": model.weights_hash,
        "tokenizer_hash": model.tokenizer_hash,
        "engine": context.config.generate.engine.model_dump(mode="json"),
        "dtype": context.config.dtype,
        "device": context.config.device,
        "trust_remote_code": context.config.trust_remote_code,
    }


# -- in the stage process -----------------------------------------------------------------------


def messages_for(text: str, system_prompt: str | None) -> tuple[Message, ...]:
    """The conversation a policy is shown for an instruction; training uses the same."""
    user: Message = {"role": "user", "content": text}
    return ({"role": "system", "content": system_prompt}, user) if system_prompt else (user,)


def candidate_id(spec: dict[str, Any], prompt: Prompt, sample_idx: int) -> str:
    """Everything that decides the text, and nothing else; the round keeps equal weights of two rounds apart."""
    return content_id(
        "candidate", prompt.prompt_id, spec["round"], spec["split"], spec["weights_hash"], spec["tokenizer_hash"],
        spec["params"], spec["system_prompt"], seed_of(spec, prompt, sample_idx), sample_idx,
    )  # fmt: skip


def seed_of(spec: dict[str, Any], prompt: Prompt, sample_idx: int) -> int:
    # Held-out answers of all rounds share their seeds: paired tests then compare models, not luck.
    scope = "held_out" if spec["split"] == "held_out" else spec["round"]
    return derive_seed(spec["run_seed"], scope, prompt.prompt_id, sample_idx)


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    prompts = sorted(folder.rows("prompts", Prompt), key=lambda p: p.prompt_id)
    params = SamplingParams(**spec["params"])
    notes = Notes(spec["round"], "answer" if spec["split"] == "held_out" else "generate")
    engine = load_engine(spec, notes.add)
    conversations = [messages_for(p.text, spec["system_prompt"]) for p in prompts]
    lengths = [len(engine.encode_prompt(messages)) for messages in conversations]
    batches = engine.plan(lengths, spec["samples"], params.max_tokens)
    done = set(spec["done"])
    finished, tokens, started = 0, 0, time.monotonic()
    for number, batch in enumerate(batches):
        ids = [[candidate_id(spec, prompts[i], j) for j in range(spec["samples"])] for i in batch]
        if any(identity not in done for members in ids for identity in members):
            requests = [
                GenerationRequest(
                    prompts[i].prompt_id,
                    conversations[i],
                    tuple(seed_of(spec, prompts[i], j) for j in range(spec["samples"])),
                )
                for i in batch
            ]
            completions = engine.generate(requests, params)
            rows = _rows(spec, engine.name, params, [prompts[i] for i in batch], ids, completions)
            folder.emit(number, [*rows, *notes.take(number)])
            tokens += sum(row.n_tokens for row in rows)
        finished += len(batch) * spec["samples"]
        note = f"{tokens / max(time.monotonic() - started, 1e-9):.0f} tokens/s"
        folder.report(Progress(finished, len(prompts) * spec["samples"], "answers", 0, note))
    engine.close()


def _rows(
    spec: dict[str, Any],
    engine: str,
    params: SamplingParams,
    prompts: Sequence[Prompt],
    ids: Sequence[Sequence[str]],
    completions: Sequence[tuple[Completion, ...]],
) -> list[Candidate]:
    return [
        Candidate(
            candidate_id=ids[i][j],
            prompt_id=prompt.prompt_id,
            round=spec["round"],
            split=spec["split"],
            sample_idx=j,
            weights_hash=spec["weights_hash"],
            engine=engine,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_tokens,
            seed=seed_of(spec, prompt, j),
            text=completion.text,
            token_ids=completion.token_ids,
            n_tokens=len(completion.token_ids),
            n_prompt_tokens=completion.n_prompt_tokens,
            finish_reason=completion.finish_reason,
            end_token_id=completion.end_token_id,
            logprob=completion.logprob,
        )
        for i, prompt in enumerate(prompts)
        for j, completion in enumerate(completions[i])
    ]
