"""Stage ``train``: M_{t-1} and what the round made to train on become M_t, published as a durable folder.

By the config's ``policy`` it may also begin with M_0 and take rows of earlier rounds; by ``train.reference`` the loss
compares with M_{t-1}, M_0 or an average of all models so far.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfalign.disk import references
from selfalign.durable import write_atomic
from selfalign.errors import EmptyStage, ModelError, WeightsMismatch
from selfalign.failpoints import reach
from selfalign.identity import canonical, content_id, hash_tokenizer, hash_weights
from selfalign.protocols import Trainer, TrainingJob
from selfalign.registry import find
from selfalign.space import folder_bytes
from selfalign.stages import replay, reviewed
from selfalign.stages.context import Model, RunContext
from selfalign.stages.examples import KINDS, Encoder, Made, candidates_of
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect, supervise
from selfalign.training import adapters, average
from selfalign.training.average import Source
from selfalign.training.checkpoints import publish
from selfalign.training.settings import TrainingSettings
from selfalign.types import Candidate, Checkpoint, Event, Judgement, Prompt
from selfalign.workspace import MANIFEST, made_by

#: Stage that makes what a round trains on -> names of the rows that it may make.
_MAKES = {"pair": ("pairs", "labels", "rankings"), "meta_judge": ("judgement_pairs",), "lessons": ("lessons",)}


def fingerprint(context: RunContext, round: int) -> str:
    settings = context.config.trainer(round)
    ema = references.decay(context.config, round)
    compared_with = (
        context.weights(_reference_round(context, round)).weights_hash
        if ema is None
        else references.average_id(context, round, ema)
    )
    replays, reviews = replay.made_of(context, round), reviewed.made_of(context, round)
    return content_id(
        "train", *(upstream(context, round, stage) for stage in _takes(context, round)), settings.model_dump(mode="json", exclude={"save_every"}),
        context.weights(context.config.start_round(round)).weights_hash, compared_with, *([replays] if replays else []),
        *([reviews] if reviews else []),
    )  # fmt: skip


def _reference_round(context: RunContext, round: int) -> int:
    """t of the M_t that the loss compares with: 0, or the previous round. An average has no such round."""
    return 0 if getattr(context.config.trainer(round), "reference", "previous") == "initial" else round - 1


def policy(context: RunContext, round: int) -> dict[str, Any]:
    """What decides the training beside the trainer's settings, as ``rounds.policy`` has it."""
    settings, trainer = context.config.policy_in(round), context.config.trainer(round).model_dump(mode="json")
    data = "this" if context.config.teaches(round) else settings.model_dump(mode="json")["data"]
    return {"start": settings.start, "data": data, "reference": trainer.get("reference")}


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "train", fingerprint)
    collect(folder, context)
    final = context.workspace.checkpoint_folder(round, fingerprint)
    made = _takes(context, round)
    with context.store.read():
        rows = {
            name: context.store.rows(KINDS[name], "round = ?", (round,)) for stage in made for name in _MAKES[stage]
        }
        if not any(rows.values()):
            raise EmptyStage(f"round {round}: nothing to train on, its stage '{made[0]}' made nothing")
        changed = reviewed.decisions(context, round)
        rows, earlier = reviewed.applied(rows, changed), reviewed.applied(replay.replayed(context, round), changed)
    rows = {name: [*rows.get(name, ()), *earlier.get(name, ())] for name in {**rows, **earlier}}
    n_rows = sum(map(len, rows.values()))
    if not n_rows:
        raise EmptyStage(
            f"round {round}: nothing to train on, every pair was rejected in review; accept some of them (selfalign browse "
            f"{context.workspace.path}), then run again"
        )
    start = context.config.start_round(round)
    if not context.store.rows(Checkpoint, "round = ?", (round,)):
        context.store.insert(replay.records(round, earlier))
        parent, base = context.model(start), _base(context, round)
        spec = {
            "kind": "train",
            "round": round,
            "seed": _seed(context, round),
            "fingerprint": fingerprint,
            "train": context.config.trainer(round).model_dump(mode="json"),
            "parent": str(parent.path.resolve()),
            "parent_hash": parent.weights_hash,
            **_reference(context, round),
            "base": str(base.path.resolve()) if base else None,
            "base_hash": base.weights_hash if base else None,
            "system_prompt": context.config.generate.system_prompt,
            "final": str(final.resolve()),
            "cache": str(context.workspace.state.resolve() / "logprobs"),
            "final_relative": str(final.relative_to(context.workspace.path)),
        }
        supervise(
            folder, spec, {**rows, **_named(context, rows, changed)}, context=context, label=f"round {round} train"
        )
    checkpoint = context.store.rows(Checkpoint, "round = ?", (round,))[0]
    context.store.put_round(
        round, parent_hash=context.weights(round - 1).weights_hash, weights_hash=checkpoint.weights_hash,
        tokenizer_hash=hash_tokenizer(context.workspace.path / checkpoint.path),
        trainer=checkpoint.trainer, reference_hash=checkpoint.reference_hash, start_hash=context.weights(start).weights_hash,
        policy=policy(context, round),
    )  # fmt: skip
    reach("round_recorded")
    folder.remove()  # the trainer's states: of no use once M_t is recorded
    metrics = json.loads(checkpoint.metrics)
    shown = ", ".join(
        f"{name} {metrics[name]:.3f}" for name in ("guard_loss", "train_loss", "reward_accuracy") if name in metrics
    )
    said = f"M{round} from {checkpoint.n_examples} examples, {shown}{reviewed.in_words(changed)}"
    return StageOutcome(n_rows, 1, said, metrics)


def _takes(context: RunContext, round: int) -> list[str]:
    """The stages that made what the round trains on."""
    if context.config.teaches(round):
        return ["lessons"]
    return ["pair", "meta_judge"] if context.config.meta_judges(round) else ["pair"]


def _reference(context: RunContext, round: int) -> dict[str, Any]:
    """The reference as the stage's process takes it: a folder and its hash, or the average to make there first."""
    ema = references.decay(context.config, round)
    if ema is None:
        model = context.model(_reference_round(context, round))
        return {"reference": str(model.path.resolve()), "reference_hash": model.weights_hash}
    made = references.recipe(context, round, ema)

    def shown(source: Source) -> list[str]:
        return [str(source.folder.resolve()), source.weights_hash]

    spec = {"ema": ema, "models": made.models, "below": shown(made.below), "added": [shown(one) for one in made.added]}
    return {"reference": str(made.folder.resolve()), "average": spec}


def _base(context: RunContext, round: int) -> Model | None:
    """What M_{round-1}'s adapter is added to, where the round goes on training that adapter (lora.chain: stack).

    None where it begins a new one: without an adapter of the same shape, or where what it is added to is not this run's.
    """
    settings = context.config.trainer(round)
    if not isinstance(settings, TrainingSettings) or settings.lora.chain != "stack" or round == 1:
        return None
    origin = adapters.origin(context.model(round - 1).path)
    if origin is None or origin.shape != settings.adapter_shape():
        return None
    earlier = context.round_with(origin.weights_hash, before=round - 1)
    return None if earlier is None else context.model(earlier)


def _named(
    context: RunContext, rows: Mapping[str, Sequence[Made]], changed: reviewed.Decisions
) -> dict[str, Sequence[Any]]:
    """The candidates and judgements that the rows name, and the prompts of their rounds; for lessons none of them."""
    wanted = {candidate_id for kind in rows.values() for row in kind for candidate_id in candidates_of(row)}
    if not wanted:
        return {}
    pairs: Sequence[Any] = rows.get("judgement_pairs", ())
    judgements = {side for pair in pairs for side in (pair.chosen_id, pair.rejected_id)}
    rounds = sorted({row.round for kind in rows.values() for row in kind})
    with context.store.read():
        return _rows_of(context, rounds, wanted, judgements, changed)


def _rows_of(
    context: RunContext,
    rounds: Sequence[int],
    wanted: Collection[str],
    judgements: Collection[str],
    changed: reviewed.Decisions,
) -> dict[str, Sequence[Any]]:
    of_rounds = "round in (select unnest(?))"
    train, named = f"{of_rounds} and split = 'train'", "in (select unnest(?))"
    return {
        "candidates": context.store.rows(Candidate, f"{train} and candidate_id {named}", (rounds, sorted(wanted))),
        # A prompt of several rounds is the same in all of them.
        "prompts": list({p.prompt_id: p for p in context.store.rows(Prompt, train, (rounds,))}.values()),
        "judgements": context.store.rows(
            Judgement, f"{of_rounds} and judgement_id {named}", (rounds, sorted(judgements))
        )
        if judgements
        else [],
        "strengths": [
            reviewed.certain(strength, changed)
            for strength in context.store.rows(Event, f"{of_rounds} and kind = 'pair_strength'", (rounds,))
        ],
    }


def _seed(context: RunContext, round: int) -> int:
    # transformers takes 32-bit seeds.
    return int(content_id("train_seed", context.config.seed, round)[:8], 16) >> 1


# -- in the stage process -----------------------------------------------------------------------


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    final = Path(spec["final"])
    record = _finished(final, spec["fingerprint"])
    if record is None:
        record = _train(folder, spec, final)
    folder.emit(0, [Checkpoint(**record)])


def _finished(final: Path, fingerprint: str) -> dict[str, Any] | None:
    """The record of a checkpoint that an earlier attempt published but could not report."""
    if made_by(final) != fingerprint:
        return None
    record: dict[str, Any] = json.loads((final / MANIFEST).read_text(encoding="utf-8"))["checkpoint"]
    try:
        whole = hash_weights(final) == record["weights_hash"]
    except ModelError:
        whole = False
    return record if whole else None  # what a power cut damaged is trained again


def _train(folder: JobFolder, spec: dict[str, Any], final: Path) -> dict[str, Any]:
    parent, reference = Path(spec["parent"]), Path(spec["reference"])
    base = Path(spec["base"]) if spec["base"] else None
    # A mapping: where the reference is the parent, its weights are read once.
    expected_hashes = {parent: spec["parent_hash"]}
    if "average" in spec:
        _make_average(spec["average"], reference)
    else:
        expected_hashes[reference] = spec["reference_hash"]
    for path, expected in (expected_hashes | ({base: spec["base_hash"]} if base else {})).items():
        if hash_weights(path) != expected:
            raise WeightsMismatch(f"{path}: the weights changed since this round began; put the original files back")
    plugin = find("train", spec["train"]["id"]).load()
    trainer: Trainer = plugin(plugin.Config.model_validate(spec["train"]))
    output = final.with_name(f".{final.name}.partial")
    shutil.rmtree(output, ignore_errors=True)

    folder.report(Progress(0, 0, "steps", "loading the model and what the reference gives"))
    before: int | None = None  # steps of an earlier process; one that goes on begins with the step after them

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        nonlocal before
        before = done - 1 if before is None else before
        note = f"loss {metrics['loss']:.3f}" if "loss" in metrics else ""
        folder.report(Progress(done, total, "steps", note, before, time.time()))

    scratch = folder.path / "scratch"
    scratch.mkdir(exist_ok=True)
    result = trainer.train(
        TrainingJob(
            round=spec["round"], seed=spec["seed"], parent=parent, reference=reference, output=output,
            scratch=scratch, report=report, base=base,
            cache=Path(spec["cache"]), **{trainer.needs: _examples(folder, spec, parent, trainer.needs)},
        )
    )  # fmt: skip
    weights_hash = hash_weights(output)
    record = Checkpoint(
        checkpoint_id=content_id("checkpoint", spec["round"], weights_hash, hash_tokenizer(output)),
        round=spec["round"],
        parent_id=spec["parent_hash"],
        weights_hash=weights_hash,
        path=spec["final_relative"],
        trainer=trainer.name,
        method=str(spec["train"].get("method", "full")),
        reference_hash=result.reference_hash,
        n_examples=result.n_examples,
        n_bytes=folder_bytes(output),
        config=canonical(spec["train"]),
        metrics=canonical(dict(result.metrics)),
    ).__dict__
    reach("weights_written")
    write_atomic(output / "history.json", json.dumps([dict(step) for step in result.history]))
    write_atomic(output / MANIFEST, json.dumps({"fingerprint": spec["fingerprint"], "checkpoint": record}, indent=2))
    reach("manifest_written")
    publish(output, final)
    return dict(record)


def _make_average(spec: Mapping[str, Any], target: Path) -> None:
    below, *added = (Source(Path(folder), weights_hash) for folder, weights_hash in (spec["below"], *spec["added"]))
    average.build(below, added, spec["ema"], spec["models"], target)


def _examples(folder: JobFolder, spec: Mapping[str, Any], parent: Path, needs: str) -> list[Any]:
    from transformers import AutoTokenizer

    encoder = Encoder(
        AutoTokenizer.from_pretrained(parent, local_files_only=True, trust_remote_code=False),
        spec["system_prompt"],
        {p.prompt_id: p for p in folder.rows("prompts", Prompt)},
        {c.candidate_id: c for c in folder.rows("candidates", Candidate)},
        {e.subject_id: json.loads(e.detail).get("smoothing") for e in folder.rows("strengths", Event)},
        {j.judgement_id: j for j in folder.rows("judgements", Judgement)},
    )
    return encoder.examples({name: folder.rows(name, kind) for name, kind in KINDS.items()}, needs)
