"""Stages ``generate`` (training candidates of M_{t-1}) and ``answer`` (held-out answers of M_t)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import WeightsNotKept
from selfalign.failpoints import reach
from selfalign.identity import content_id, derive_seed
from selfalign.protocols import Engine
from selfalign.stages.context import Model, RunContext
from selfalign.stages.conversations import Ask, asks, load_contrast
from selfalign.stages.demonstrations import demonstration_id, demonstrations, with_answer
from selfalign.stages.engine import concrete, own_engine, served
from selfalign.stages.jobs import JobFolder
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.loading import Notes, load_engine, load_tokenizer
from selfalign.stages.meter import Meter
from selfalign.stages.supervise import collect, supervise
from selfalign.templates import Templates
from selfalign.types import Candidate, Completion, GenerationRequest, Prompt, SamplingParams, Split

#: Demonstrations whose log-probabilities are read in one batch; the engine makes its own of them by tokens.
_DEMONSTRATIONS = 64


@dataclass(frozen=True)
class Sampling:
    """Who answers which prompts, how often and how."""

    stage: str
    split: Split
    model_round: int
    prompt_round: int
    samples: int
    params: SamplingParams
    #: names of the two files that show a prompt; None: as it is
    contrast: Mapping[str, str] | None = None
    #: whether a prompt's own answer is a candidate as well
    demonstrations: bool = False


def training_candidates(context: RunContext, round: int) -> Sampling:
    settings = context.config.generate
    params = SamplingParams(settings.temperature, settings.top_p, settings.top_k, settings.max_tokens)
    # A round that teaches the judge verifies what the model answers by itself.
    contrast = None if context.config.teaches(round) or settings.contrast is None else settings.contrast.model_dump()
    shown = settings.demonstrations and not context.config.teaches(round)
    return Sampling("generate", "train", round - 1, round, settings.candidates, params, contrast, shown)


def held_out_answers(context: RunContext, round: int) -> Sampling:
    settings, generate = context.config.evaluate, context.config.generate
    params = SamplingParams(settings.temperature, settings.top_p, 0, settings.max_tokens or generate.max_tokens)
    return Sampling("answer", "held_out", round, 0, settings.samples, params)


def fingerprint(context: RunContext, round: int, sampling: Sampling) -> str:
    model = context.weights(sampling.model_round)
    # Held-out answers are M_t's own; only later rounds may go on from an approximation of it.
    weights = model.original_hash if sampling.model_round == round else model.weights_hash
    return content_id(
        sampling.stage, upstream(context, sampling.prompt_round, "prompts"), weights, model.tokenizer_hash,
        sampling.samples, asdict(sampling.params), context.config.generate.system_prompt,
        _deciding(_engine(context, sampling)), context.config.dtype, *_further(context, sampling),
    )  # fmt: skip


def _engine(context: RunContext, sampling: Sampling) -> Any:
    """The Config of the engine that answers: held-out prompts are the policy's own to answer."""
    given = context.config.generate.engine
    return given if sampling.split == "train" else own_engine(given)


def _deciding(engine: Any) -> dict[str, Any]:
    """What of an engine's Config answers depend on; all of it, where it does not say."""
    found: dict[str, Any] = engine.decides() if hasattr(engine, "decides") else engine.model_dump(mode="json")
    return found


def _further(context: RunContext, sampling: Sampling) -> list[Any]:
    """What only some runs have; the fingerprints of the others are as they were before there was any of it."""
    found: list[Any] = []
    if sampling.contrast is not None:
        found.append([template.hash for template in load_contrast(context.templates(), sampling.contrast).values()])
    if sampling.demonstrations:
        found.append("demonstrations")
    return found


def run(context: RunContext, round: int, sampling: Sampling, fingerprint: str) -> StageOutcome:
    folder = context.job(round, sampling.stage, fingerprint)
    collect(folder, context)
    where, values = "round = ? and split = ?", (round, sampling.split)
    with context.store.read():
        prompts = context.store.rows(Prompt, where, (sampling.prompt_round, sampling.split))
        ids = context.store.query(f"select candidate_id from candidates where {where}", values)
        model = context.model(sampling.model_round)
    done = ids["candidate_id"].to_pylist()
    expected = len(prompts) * sampling.samples + (len(with_answer(prompts)) if sampling.demonstrations else 0)
    if len(done) < expected:
        if sampling.model_round == round and model.original_hash != model.weights_hash:
            raise WeightsNotKept(
                f"round {round}: M{round} itself is to answer, and only an approximation of it is left"
            )
        supervise(
            folder, _spec(context, round, sampling, model, done), {"prompts": prompts},
            context=context, label=f"round {round} {sampling.stage}",
        )  # fmt: skip
    folder.remove()
    figures = context.store.query(
        f"select count(*) n, sum(n_tokens) tokens, avg(n_tokens) mean, avg((finish_reason = 'length')::double) cut "
        f"from candidates where {where} and origin is distinct from 'demonstration'",
        values,
    ).to_pylist()[0]
    known = expected - len(prompts) * sampling.samples
    summary = (
        f"{figures['n']} answers to {len(prompts)} prompts, {figures['mean']:.0f} tokens on average, "
        f"{figures['cut']:.0%} cut at max_tokens" + (f"; {known} demonstrations" if known else "")
    )
    return StageOutcome(
        len(prompts), figures["n"] + known, summary, {"tokens": int(figures["tokens"]), "truncated": figures["cut"]}
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
        "contrast": sampling.contrast,
        "demonstrations": sampling.demonstrations,
        "templates": [str(path.resolve()) for path in context.template_folders()],
        **engine_spec(context, model),
        **_served(_engine(context, sampling)),
        "done": done,
    }


def _served(engine: Any) -> dict[str, Any]:
    """What differs in a spec where a server answers: nobody can hash its weights, and rows name it instead."""
    if not served(engine):
        return {}
    return {"engine": engine.model_dump(mode="json"), "weights_hash": engine.weights_hash}


def engine_spec(context: RunContext, model: Model) -> dict[str, Any]:
    """What a stage process needs to load a model and to prove that it is the right one."""
    own = own_engine(context.config.generate.engine)
    _, chosen = concrete(own, context.config)
    return {
        "model": str(model.path.resolve()),
        "weights_hash": model.weights_hash,
        "tokenizer_hash": model.tokenizer_hash,
        "engine": chosen.model_dump(mode="json"),
        "dtype": context.config.dtype,
        "device": context.config.device,
        "trust_remote_code": context.config.trust_remote_code,
    }


# -- in the stage process -----------------------------------------------------------------------


def candidate_id(spec: dict[str, Any], prompt: Prompt, sample_idx: int, shown: str | None = None) -> str:
    """Everything that decides the text, and nothing else; the round keeps equal weights of two rounds apart.

    ``shown`` is the hash of the contrast file that the prompt was shown by.
    """
    return content_id(
        "candidate", prompt.prompt_id, spec["round"], spec["split"], spec["weights_hash"], spec["tokenizer_hash"],
        spec["params"], spec["system_prompt"], seed_of(spec, prompt, sample_idx), sample_idx,
        *([] if shown is None else [shown]),
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
    known = with_answer(prompts) if spec["demonstrations"] else []
    meter = Meter(folder, len(prompts) * spec["samples"] + len(known), "answers", samples=True)
    engine = load_engine(spec, notes.add, meter)
    contrast = (
        load_contrast(Templates([Path(p) for p in spec["templates"]]), spec["contrast"]) if spec["contrast"] else None
    )
    asked = asks(prompts, spec["samples"], spec["system_prompt"], contrast)
    lengths = [len(engine.encode_prompt(ask.messages)) for ask in asked]
    batches = engine.plan(lengths, max((len(ask.samples) for ask in asked), default=0), params.max_tokens)
    done = set(spec["done"])
    for number, batch in enumerate(batches):
        members = [asked[i] for i in batch]
        ids = [[candidate_id(spec, ask.prompt, j, ask.shown) for j in ask.samples] for ask in members]
        if any(identity not in done for own in ids for identity in own):
            requests = [
                GenerationRequest(
                    ask.prompt.prompt_id, ask.messages, tuple(seed_of(spec, ask.prompt, j) for j in ask.samples)
                )
                for ask in members
            ]
            reach("batch_begun")
            completions = engine.generate(requests, params)
            rows = _rows(spec, engine.name, params, members, ids, completions)
            folder.emit(number, [*rows, *notes.take(number)])
            meter.made(len(rows), sum(row.n_tokens for row in rows))
        else:
            meter.had(sum(len(own) for own in ids))
    _add_known(folder, spec, engine, known, len(batches), notes, meter)
    engine.close()


def _add_known(
    folder: JobFolder,
    spec: dict[str, Any],
    engine: Engine,
    prompts: Sequence[Prompt],
    first: int,
    notes: Notes,
    meter: Meter,
) -> None:
    """Demonstrations, in batches that follow those of the samples."""
    done = set(spec["done"])
    tokenizer = load_tokenizer(spec) if prompts else None
    for place in range(0, len(prompts), _DEMONSTRATIONS):
        members = prompts[place : place + _DEMONSTRATIONS]
        if all(demonstration_id(spec["round"], p.prompt_id, p.answer or "") in done for p in members):
            meter.had(len(members))
            continue
        number = first + place // _DEMONSTRATIONS
        reach("batch_begun")
        folder.emit(number, [*demonstrations(spec, engine, tokenizer, members), *notes.take(number)])
        meter.made(len(members))


def _rows(
    spec: dict[str, Any],
    engine: str,
    params: SamplingParams,
    asked: Sequence[Ask],
    ids: Sequence[Sequence[str]],
    completions: Sequence[tuple[Completion, ...]],
) -> list[Candidate]:
    return [
        Candidate(
            candidate_id=identity,
            prompt_id=ask.prompt.prompt_id,
            round=spec["round"],
            split=spec["split"],
            sample_idx=sample,
            weights_hash=spec["weights_hash"],
            engine=engine,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_tokens,
            seed=seed_of(spec, ask.prompt, sample),
            text=completion.text,
            token_ids=completion.token_ids,
            n_tokens=len(completion.token_ids),
            n_prompt_tokens=completion.n_prompt_tokens,
            finish_reason=completion.finish_reason,
            end_token_id=completion.end_token_id,
            logprob=completion.logprob,
            origin=ask.origin,
        )
        for ask, own, answers in zip(asked, ids, completions, strict=True)
        for sample, identity, completion in zip(ask.samples, own, answers, strict=True)
    ]
