"""What a round's training reads and changes, before anything is started.

Rows are filler, in micro-batches as the trainer lays them out: every row of a pair, a label, a ranking or a lesson is
made of prompts and answers as long as they are expected to be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign import filler
from selfalign.fit import at_most
from selfalign.preflight import Preflight
from selfalign.registry import find
from selfalign.stages import generate, lessons, meta_judge, replay
from selfalign.stages.context import RunContext
from selfalign.training.micro_batch import tokens_read
from selfalign.training.settings import MEASURED, TrainingSettings
from selfalign.training.sizes import adapter_weights, shapes
from selfalign.types import Lesson, ScoredCandidate, ScoredGroup, TokenSequence

#: Rows whose lengths are taken; the rest is in proportion.
SAMPLE = 48

#: The sequences of one row, read in the same micro-batch.
Row = Sequence[TokenSequence]


@dataclass(frozen=True)
class Training:
    """What one round trains on.

    ``read`` are tokens read without gradient (the reference, the figures), ``trained`` those of all epochs that are
    read forward and backward, padded to the longest of their micro-batch; ``packed`` is what is left of these where
    beginnings in common are read once (packing.py). Architectures that do not allow that are not looked for.
    ``updates`` are weights times optimizer steps.
    """

    rows: int
    read: int
    trained: int
    packed: int
    updates: int


@dataclass(frozen=True)
class _Kind:
    """``n`` rows like those of ``sample``, which is empty only where ``n`` is 0."""

    n: float
    sample: Sequence[Row]


def rows_a_prompt(context: RunContext, round: int) -> float:
    """Rows that a prompt gives at most, by the round's builder."""
    config = context.config
    here = config.generate.candidates + config.generate.demonstrations
    return at_most(config.builder(round), min(here, getattr(config.resample, "accept", here)))


def training(context: RunContext, found: Preflight, round: int) -> Training:
    """See :class:`Training`; upper bounds, as a builder's rows and the pairs of judgements are."""
    settings = context.config.trainer(round)
    kinds = list((_taught if context.config.teaches(round) else _made)(context, found, round))
    rows = sum(_int(kind.n) for kind in kinds)
    epochs, batch = getattr(settings, "epochs", 1.0), getattr(settings, "batch_size", 1)
    micro_batch = settings.micro_batch() if isinstance(settings, TrainingSettings) else 1
    alone = sum(_tokens(kind, 1, False) for kind in kinds)
    trained = epochs * sum(_tokens(kind, micro_batch, False) for kind in kinds)
    packed = epochs * sum(_tokens(kind, micro_batch, True) for kind in kinds)
    only_read = getattr(settings, "only_read", 0)
    # By the reference, where the loss has one; in every epoch; and some by both models for the figures.
    times = (1 + only_read) * getattr(settings, "needs_reference", False) + only_read * epochs
    read = alone * (times + 2 * min(1.0, MEASURED / max(rows, 1)))
    return Training(
        rows, _int(read), _int(trained), _int(trained if getattr(settings, "packing", "off") == "off" else packed),
        math.ceil(rows * epochs / batch) * _trained_weights(settings, found),
    )  # fmt: skip


def _tokens(kind: _Kind, micro_batch: int, packs: bool) -> float:
    """Tokens that the rows of ``kind`` are read as, ``micro_batch`` of them at a time."""
    sample = kind.sample
    batches = [sample[start : start + micro_batch] for start in range(0, len(sample), micro_batch)]
    read = sum(tokens_read([sequence for row in batch for sequence in row], packs) for batch in batches)
    return kind.n * read / max(1, len(sample))


def _trained_weights(settings: Any, found: Preflight) -> int:
    if isinstance(settings, TrainingSettings) and settings.low_rank:
        return adapter_weights(settings, shapes(found.model_path))
    return found.model.parameters


# -- rows of builders -------------------------------------------------------------------------------------


def _made(context: RunContext, found: Preflight, round: int) -> Iterator[_Kind]:
    """What this round's builder makes, and its share of earlier rounds' rows; then the pairs of judgements."""
    config, engine = context.config, filler.engine(context, found)
    # As many prompts are drawn for every round.
    prompts = min(config.prompts.per_round, len({prompt.prompt_id for prompt in found.training}))
    taken = {made: share for made, share in replay.shares(context, round).items() if not config.teaches(made)}
    pairs = prompts * rows_a_prompt(context, round)
    n = _int(pairs) + sum(_int(share * prompts * rows_a_prompt(context, made)) for made, share in taken.items())
    tokens = filler.mean_tokens(generate.training_candidates(context, round))
    drawn = filler.drawn(context, found, round)
    sample: list[Row] = []
    for prompt in drawn[:: max(1, len(drawn) // SAMPLE)]:
        shown = engine.encode_prompt([{"role": "user", "content": prompt.text}])
        answers = filler.candidates(engine, prompt, _answers(context, round), tokens)
        sample.append([TokenSequence(shown, engine.encode_text(answer.candidate.text)) for answer in answers])
    yield _Kind(n if sample else 0, sample)
    if config.meta_judges(round) and find("train", config.trainer(round).id).load().needs == "pairs":
        yield _judgement_pairs(context, found, round, _int(pairs))


def _answers(context: RunContext, round: int) -> int:
    """Answers that the trainer reads of a row."""
    config = context.config
    if find("train", config.trainer(round).id).load().needs == "completions":
        return 1
    listed = min(config.generate.candidates, getattr(config.resample, "accept", config.generate.candidates))
    makes = getattr(find("pair", config.builder(round).id).load(), "makes", "pairs")
    return {"labels": 1, "rankings": listed}.get(makes, 2)


def _judgement_pairs(context: RunContext, found: Preflight, round: int, answer_pairs: int) -> _Kind:
    engine, settings = filler.engine(context, found), context.config.meta
    items = [
        item for group in filler.filled(context, found, generate.training_candidates(context, round)) for item in group
    ]
    judges = meta_judge.writing_judges(context, round)
    compared = min(settings.candidates, len(items)) * len(judges)
    size = _int(settings.max_tokens * filler.MEAN_ANSWER_SHARE)
    sample = [
        [TokenSequence(engine.encode_prompt(judge.asks(item)), engine.encode_text(engine.filler(size, vote))) for vote in (0, 1)]
        for judge in judges
        for item in items[:: max(1, len(items) // SAMPLE)]
    ]  # fmt: skip
    return _Kind(min(compared, meta_judge.limit(answer_pairs, settings.max_share)), sample)


# -- lessons ----------------------------------------------------------------------------------------------


def _taught(context: RunContext, found: Preflight, round: int) -> Iterator[_Kind]:
    """Verdicts by where their pairs come from, then instructions."""
    settings, engine = context.config.teach, filler.engine(context, found)
    judge, gold = lessons.teachable(context, round), lessons.teach_items(context)

    def row(one: Lesson) -> Row:
        shown = engine.encode_prompt(json.loads(one.messages), one.answer_prefix)
        return [TokenSequence(shown, engine.encode_text(one.answer))]

    verdicts = 0.0
    groups = _half_good(context, found, round, judge.name) if settings.verified else []
    for source, pairs in lessons.known_pairs(context, round, gold, groups).items():
        tried = pairs[:: max(1, len(pairs) // SAMPLE)]
        made = lessons.verdicts(judge, {source: tried}, round)
        n = len(made) * len(pairs) / max(1, len(tried))
        yield _Kind(n, [row(one) for one in made])
        verdicts += n
    count = lessons.wanted(_int(verdicts), settings.instruction_share)
    instructions = lessons.instruction_lessons(
        gold, count, round, context.config.generate.system_prompt, context.config.seed
    )
    yield _Kind(len(instructions), [row(one) for one in instructions])


def _half_good(context: RunContext, found: Preflight, round: int, judge: str) -> list[ScoredGroup]:
    """The round's candidates with constraints, of which every other one follows them."""
    return [
        ScoredGroup(
            group[0].prompt,
            tuple(
                ScoredCandidate(item.candidate, float(number % 2), 1, {"ok": 1}) for number, item in enumerate(group)
            ),
            judge,
        )
        for group in filler.filled(context, found, generate.training_candidates(context, round))
        if group[0].prompt.instruction_id_list
    ]


def _int(value: float) -> int:
    return round(value)
