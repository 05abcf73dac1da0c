"""Stage ``train``: M_{t-1} and the round's pairs (of answers and of judgements) or lessons become M_t.

M_t is published as a durable folder.
"""

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
from selfalign.stages.context import RunContext
from selfalign.stages.generate import messages_for
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect, supervise
from selfalign.training.checkpoints import publish
from selfalign.types import (
    Candidate,
    Checkpoint,
    CompletionExample,
    Judgement,
    JudgementPair,
    Lesson,
    Pair,
    PairExample,
    Prompt,
)
from selfalign.workspace import MANIFEST, made_by

#: Stage that makes examples -> the rows it makes.
_EXAMPLES: Mapping[str, type[Any]] = {"pair": Pair, "meta_judge": JudgementPair, "lessons": Lesson}


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
    examples = [row for stage in made for row in context.store.rows(_EXAMPLES[stage], "round = ?", (round,))]
    if not context.store.rows(Checkpoint, "round = ?", (round,)):
        if not examples:
            raise EmptyStage(f"round {round}: nothing to train on, its stage '{made[0]}' made nothing")
        parent, reference = context.model(round - 1), context.model(reference_round(context, round))
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
            "system_prompt": context.config.generate.system_prompt,
            "final": str(final.resolve()),
            "final_relative": str(final.relative_to(context.workspace.path)),
        }
        inputs = {"lessons": examples} if made == ["lessons"] else _pair_inputs(context, round)
        supervise(folder, spec, inputs, context=context, label=f"round {round} train")
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
    return StageOutcome(len(examples), 1, f"M{round} from {checkpoint.n_examples} examples, {shown}", metrics)


def _takes(context: RunContext, round: int) -> list[str]:
    """The stages that made what the round trains on."""
    if context.config.teaches(round):
        return ["lessons"]
    return ["pair", "meta_judge"] if context.config.meta_judges(round) else ["pair"]


def _pair_inputs(context: RunContext, round: int) -> dict[str, Sequence[Any]]:
    pairs = context.store.rows(Pair, "round = ?", (round,))
    of_judgements = (
        context.store.rows(JudgementPair, "round = ?", (round,)) if context.config.meta_judges(round) else []
    )
    wanted = {side for pair in pairs for side in (pair.chosen_id, pair.rejected_id)}
    wanted_judgements = {side for pair in of_judgements for side in (pair.chosen_id, pair.rejected_id)}
    candidates = context.store.rows(Candidate, "round = ? and split = 'train'", (round,))
    judgements = context.store.rows(Judgement, "round = ?", (round,)) if of_judgements else []
    return {
        "pairs": pairs,
        "candidates": [c for c in candidates if c.candidate_id in wanted],
        "prompts": context.store.rows(Prompt, "round = ? and split = 'train'", (round,)),
        "judgement_pairs": of_judgements,
        "judgements": [j for j in judgements if j.judgement_id in wanted_judgements],
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
    # A mapping: where the reference is the parent, its weights are read once.
    for path, expected in {parent: spec["parent_hash"], reference: spec["reference_hash"]}.items():
        if hash_weights(path) != expected:
            raise WeightsMismatch(f"{path}: the weights changed since this round began; put the original files back")
    plugin = find("train", spec["train"]["id"]).load()
    trainer: Trainer = plugin(plugin.Config.model_validate(spec["train"]))
    output = final.with_name(f".{final.name}.partial")
    shutil.rmtree(output, ignore_errors=True)

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        note = f"loss {metrics['loss']:.3f}" if "loss" in metrics else ""
        folder.report(Progress(done, total, "steps", 0, note))

    pairs, completions = _examples(folder, spec, parent)
    scratch = folder.path / "scratch"
    scratch.mkdir(exist_ok=True)
    result = trainer.train(
        TrainingJob(
            round=spec["round"], seed=spec["seed"], parent=parent, reference=reference, output=output,
            scratch=scratch, report=report,
            pairs=pairs if trainer.needs == "pairs" else (),
            completions=completions if trainer.needs == "completions" else (),
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


def _examples(
    folder: JobFolder, spec: Mapping[str, Any], parent: Path
) -> tuple[list[PairExample], list[CompletionExample]]:
    """Answers as the policy sampled them, as token ids; judgements, of which the text is kept, are tokenized.

    The end token stands only where the policy ended by itself.
    """
    from transformers import AutoTokenizer

    from selfalign.engines.chat import encode_chat

    tokenizer = AutoTokenizer.from_pretrained(parent, local_files_only=True, trust_remote_code=False)
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    candidates = {c.candidate_id: c for c in folder.rows("candidates", Candidate)}
    judgements = {j.judgement_id: j for j in folder.rows("judgements", Judgement)}

    def tokens(text: str, ends: bool) -> tuple[int, ...]:
        end = [tokenizer.eos_token_id] if ends else []
        return (*tokenizer(text, add_special_tokens=False)["input_ids"], *end)

    pairs: list[PairExample] = []
    completions: list[CompletionExample] = []

    def add(
        pair: Pair | JudgementPair, prompt_ids: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...]
    ) -> None:
        pairs.append(PairExample(pair.pair_id, prompt_ids, chosen, rejected, pair.margin, pair.weight))
        completions.append(CompletionExample(pair.chosen_id, prompt_ids, chosen, pair.weight))

    of_answers: Sequence[Pair] = sorted(folder.rows("pairs", Pair), key=lambda p: p.pair_id)
    for pair in of_answers:
        prompt_ids = encode_chat(tokenizer, messages_for(prompts[pair.prompt_id].text, spec["system_prompt"]))
        add(pair, prompt_ids, candidates[pair.chosen_id].sampled_ids, candidates[pair.rejected_id].sampled_ids)
    of_judgements: Sequence[JudgementPair] = sorted(
        folder.rows("judgement_pairs", JudgementPair), key=lambda p: p.pair_id
    )
    for judged in of_judgements:
        sides = (judgements[name] for name in (judged.chosen_id, judged.rejected_id))
        chosen, rejected = (tokens(side.raw, json.loads(side.detail).get("finish_reason") == "stop") for side in sides)
        add(judged, encode_chat(tokenizer, json.loads(judged.messages)), chosen, rejected)
    for lesson in sorted(folder.rows("lessons", Lesson), key=lambda lesson: lesson.lesson_id):
        prompt_ids = encode_chat(tokenizer, json.loads(lesson.messages), lesson.answer_prefix)
        completions.append(
            CompletionExample(lesson.lesson_id, prompt_ids, tokens(lesson.answer, lesson.ends), lesson.weight)
        )
    return pairs, completions
