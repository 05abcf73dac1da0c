"""Stage ``train``: M_{t-1} and what the round made to train on become M_t, published as a durable folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfalign.durable import write_atomic
from selfalign.errors import EmptyStage, ModelError, WeightsMismatch
from selfalign.failpoints import reach
from selfalign.identity import canonical, content_id, hash_tokenizer, hash_weights
from selfalign.protocols import Trainer, TrainingJob
from selfalign.registry import find
from selfalign.space import folder_bytes
from selfalign.stages.context import Model, RunContext
from selfalign.stages.examples import KINDS, Encoder, Made, candidates_of
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect, supervise
from selfalign.training import adapters
from selfalign.training.checkpoints import publish
from selfalign.training.settings import TrainingSettings
from selfalign.types import Candidate, Checkpoint, Event, Judgement, Prompt
from selfalign.workspace import MANIFEST, made_by

#: Stage that makes what a round trains on -> names of the rows that it may make.
_MAKES = {"pair": ("pairs", "labels", "rankings"), "meta_judge": ("judgement_pairs",), "lessons": ("lessons",)}


def fingerprint(context: RunContext, round: int) -> str:
    settings = context.config.trainer(round)
    return content_id(
        "train", *(upstream(context, round, stage) for stage in _takes(context, round)), settings.model_dump(mode="json", exclude={"save_every"}),
        context.weights(round - 1).weights_hash, context.weights(reference_round(context, round)).weights_hash,
    )  # fmt: skip


def reference_round(context: RunContext, round: int) -> int:
    """0 where the reference is the initial model, else the previous round."""
    return 0 if getattr(context.config.trainer(round), "reference", "previous") == "initial" else round - 1


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "train", fingerprint)
    collect(folder, context)
    final = context.workspace.checkpoint_folder(round, fingerprint)
    made = _takes(context, round)
    rows = {name: context.store.rows(KINDS[name], "round = ?", (round,)) for stage in made for name in _MAKES[stage]}
    n_rows = sum(map(len, rows.values()))
    if not context.store.rows(Checkpoint, "round = ?", (round,)):
        if not n_rows:
            raise EmptyStage(f"round {round}: nothing to train on, its stage '{made[0]}' made nothing")
        parent, reference = context.model(round - 1), context.model(reference_round(context, round))
        base = _base(context, round)
        spec = {
            "kind": "train",
            "round": round,
            "seed": _seed(context, round),
            "fingerprint": fingerprint,
            "train": context.config.trainer(round).model_dump(mode="json"),
            "parent": str(parent.path.resolve()),
            "parent_hash": parent.weights_hash,
            "reference": str(reference.path.resolve()),
            "reference_hash": reference.weights_hash,
            "base": str(base.path.resolve()) if base else None,
            "base_hash": base.weights_hash if base else None,
            "system_prompt": context.config.generate.system_prompt,
            "final": str(final.resolve()),
            "cache": str(context.workspace.state.resolve() / "logprobs"),
            "final_relative": str(final.relative_to(context.workspace.path)),
        }
        supervise(folder, spec, {**rows, **_named(context, round, rows)}, context=context, label=f"round {round} train")
    checkpoint = context.store.rows(Checkpoint, "round = ?", (round,))[0]
    context.store.put_round(
        round, parent_hash=context.weights(round - 1).weights_hash, weights_hash=checkpoint.weights_hash,
        tokenizer_hash=hash_tokenizer(context.workspace.path / checkpoint.path),
        trainer=checkpoint.trainer, reference_hash=checkpoint.reference_hash,
    )  # fmt: skip
    reach("round_recorded")
    folder.remove()  # the trainer's states: of no use once M_t is recorded
    metrics = json.loads(checkpoint.metrics)
    shown = ", ".join(
        f"{name} {metrics[name]:.3f}" for name in ("guard_loss", "train_loss", "reward_accuracy") if name in metrics
    )
    return StageOutcome(n_rows, 1, f"M{round} from {checkpoint.n_examples} examples, {shown}", metrics)


def _takes(context: RunContext, round: int) -> list[str]:
    """The stages that made what the round trains on."""
    if context.config.teaches(round):
        return ["lessons"]
    return ["pair", "meta_judge"] if context.config.meta_judges(round) else ["pair"]


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


def _named(context: RunContext, round: int, rows: Mapping[str, Sequence[Made]]) -> dict[str, Sequence[Any]]:
    """The candidates and judgements that the rows name, and the round's prompts; for lessons none of them."""
    wanted = {candidate_id for kind in rows.values() for row in kind for candidate_id in candidates_of(row)}
    if not wanted:
        return {}
    pairs: Sequence[Any] = rows.get("judgement_pairs", ())
    judgements = {side for pair in pairs for side in (pair.chosen_id, pair.rejected_id)}
    where, values = "round = ? and split = 'train'", (round,)
    return {
        "candidates": [c for c in context.store.rows(Candidate, where, values) if c.candidate_id in wanted],
        "prompts": context.store.rows(Prompt, where, values),
        "judgements": [
            j
            for j in (context.store.rows(Judgement, "round = ?", values) if pairs else ())
            if j.judgement_id in judgements
        ],
        "strengths": context.store.rows(Event, "round = ? and kind = 'pair_strength'", values),
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
    expected_hashes = {parent: spec["parent_hash"], reference: spec["reference_hash"]}
    for path, expected in (expected_hashes | ({base: spec["base_hash"]} if base else {})).items():
        if hash_weights(path) != expected:
            raise WeightsMismatch(f"{path}: the weights changed since this round began; put the original files back")
    plugin = find("train", spec["train"]["id"]).load()
    trainer: Trainer = plugin(plugin.Config.model_validate(spec["train"]))
    output = final.with_name(f".{final.name}.partial")
    shutil.rmtree(output, ignore_errors=True)

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        note = f"loss {metrics['loss']:.3f}" if "loss" in metrics else ""
        folder.report(Progress(done, total, "steps", 0, note))

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
