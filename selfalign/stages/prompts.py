"""Stage: which prompts a round uses. Held-out prompts are written once, as round 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfalign.config import PromptSettings
from selfalign.errors import PromptFileError
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.registry import find
from selfalign.sources import embeddings, rouge
from selfalign.sources.draw import draw, overlap_with_held_out
from selfalign.sources.repeats import Near, find_repeats
from selfalign.stages import encoded
from selfalign.stages.context import RunContext
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.scanned import flagged_events, without_flagged
from selfalign.types import Event, Prompt, Split


def fingerprint(context: RunContext, round: int) -> str:
    pool = load_held_out(context) if round == 0 else load_training(context)
    # An id is that of the instruction alone; its answer counts where it becomes a candidate.
    answers = [[p.answer for p in pool]] if round and context.config.generate.demonstrations else []
    return content_id(
        "prompts", context.config.seed, round, context.config.prompts.per_round, [p.prompt_id for p in pool], *answers
    )


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    if round == 0:
        rows = load_held_out(context)
    else:
        settings = context.config.prompts
        rows = draw(load_training(context), settings.per_round, round, context.config.seed)
        rows = [replace(prompt, round=round) for prompt in rows]
    context.store.insert([*rows, *_new_events(context, round)])
    constrained = sum(bool(p.instruction_id_list) for p in rows)
    return StageOutcome(len(rows), len(rows), f"{len(rows)} prompts, {constrained} with checkable constraints")


def load_training(context: RunContext) -> list[Prompt]:
    """Every usable training prompt, in file order."""
    if "train" not in context.pools:
        settings = context.config.prompts
        rows = _read(settings.sources, settings, "train", Path.cwd())
        if settings.dedupe is not None:
            context.repeats = find_repeats(rows, settings.dedupe, _near(context))
            near = {id(repeat.prompt) for repeat in context.repeats if repeat.how != "exact"}
            rows = [prompt for prompt in rows if id(prompt) not in near]
        context.pools["train"] = _merged(without_flagged(context, rows, "train"))
    return context.pools["train"]


def _near(context: RunContext) -> Near | None:
    settings = context.config.prompts
    if settings.dedupe == "rouge_l":
        return lambda texts: rouge.repeats(texts, settings.dedupe_overlap)
    if settings.dedupe == "embeddings":
        return lambda texts: embeddings.repeats(encoded.vectors(context, texts), settings.dedupe_similarity)
    return None


def load_held_out(context: RunContext) -> list[Prompt]:
    """The held-out prompts of this run: a seeded sample of ``evaluate.prompts`` of them, or all."""
    settings = context.config.prompts
    if "held_out" not in context.pools:
        rows = _read(settings.held_out, settings, "held_out", Path.cwd())
        context.pools["held_out"] = _merged(without_flagged(context, rows, "held_out"))
    rows = list(context.pools["held_out"])
    wanted = context.config.evaluate.prompts
    if wanted is not None and wanted < len(rows):
        rows.sort(key=lambda p: derive_seed(context.config.seed, "held_out", p.prompt_id))
        rows = sorted(rows[:wanted], key=lambda p: p.prompt_id)
    return rows


def refuse_overlap(training: Sequence[Prompt], held_out: Sequence[Prompt], threshold: float) -> None:
    """Held-out prompts must measure what was not trained on.

    Raises:
        PromptFileError: naming the first training prompt that repeats a held-out one.
    """
    hits = overlap_with_held_out(training, held_out, threshold)
    if hits:
        train, held, score = hits[0]
        raise PromptFileError(
            f"{len(hits)} training prompts repeat held-out ones (ROUGE-L F > {threshold}), first: {train.text[:60]!r} ~ "
            f"{held.text[:60]!r} ({score:.2f}); remove them from one side, or raise prompts.held_out_overlap"
        )


def _read(sources: Sequence[Any], settings: PromptSettings, split: Split, base: Path) -> list[Prompt]:
    rows: list[Prompt] = []
    for config in sources:
        if config.id == "jsonl" and split == "train" and settings.dedupe is not None:
            config = config.model_copy(update={"repeats": True})
        source = find("prompts", config.id).load()(config, base)
        for prompt in source.prompts():
            if settings.only_constrained and not prompt.instruction_id_list:
                continue
            if settings.languages is not None and prompt.language not in settings.languages:
                continue
            rows.append(replace(prompt, split=split, round=0))
    if not rows:
        raise PromptFileError(
            f"no {split} prompt is left after only_constrained={settings.only_constrained} and "
            f"languages={settings.languages}; loosen them or add prompts"
        )
    return rows


def _merged(prompts: Sequence[Prompt]) -> list[Prompt]:
    rows: dict[str, Prompt] = {}
    for prompt in prompts:
        first = rows.setdefault(prompt.prompt_id, prompt)
        if first.answer is None and prompt.answer is not None:
            # Answers may have a file of their own, listed beside that of the prompts.
            rows[prompt.prompt_id] = replace(first, answer=prompt.answer)
    return list(rows.values())


def _new_events(context: RunContext, round: int) -> list[Event]:
    """What was left out for what, with the first round that drew from the rest; of held-out prompts, round 0."""
    known = context.store.query("select event_id from events where kind in ('repeated_prompt', 'flagged_prompt')")[
        "event_id"
    ].to_pylist()
    repeats = context.repeats if round else []
    events = [
        Event(
            content_id("repeated_prompt", r.prompt.origin, r.prompt.prompt_id, r.kept.prompt_id), round, "prompts",
            "repeated_prompt", r.prompt.prompt_id, f"{r.prompt.origin} left out: repeats {r.kept.origin} ({r.how})",
            canonical({"kept": r.kept.prompt_id, "how": r.how, "text": r.prompt.text}),
        )
        for r in repeats
    ]  # fmt: skip
    events += flagged_events(context, round)
    return [event for event in events if event.event_id not in set(known)]
