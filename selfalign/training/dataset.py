"""Examples as a trainer's columns, and the order they are seen in: pure functions of their arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from selfalign.errors import BadInput
from selfalign.identity import derive_seed
from selfalign.types import CompletionExample, LabelExample, PairExample, RankingExample, TokenSequence

#: Steps whose examples are sorted by length together when length bucketing is on.
_BUCKET_STEPS = 16
#: Groups that wait for a step with room for them: so many steps' worth of units.
_WAITING_STEPS = 4
#: Scores no further apart are equal: means of the same votes may differ in the last bits.
TIED = 1e-9


def fit(name: str, prompt: Sequence[int], completion: Sequence[int], max_length: int) -> tuple[int, ...]:
    """``completion`` cut at its end so that prompt and completion have at most ``max_length`` tokens.

    Raises:
        BadInput: the prompt leaves no room for a single completion token, or the completion is empty.
    """
    if len(prompt) > max_length - 1:
        raise BadInput(
            f"{name}: its prompt has {len(prompt)} tokens, more than max_length - 1 = {max_length - 1}; "
            "raise train.max_length or drop the prompt"
        )
    if not prompt or not completion:
        raise BadInput(f"{name}: empty {'prompt' if not prompt else 'completion'}; there is nothing to train on")
    return tuple(completion[: max_length - len(prompt)])


def fit_pairs(pairs: Sequence[PairExample], max_length: int) -> list[PairExample]:
    """Pairs whose two sides fit into ``max_length`` tokens; see :func:`fit`."""
    fitted = []
    for pair in pairs:
        _check_weight(f"pair {pair.pair_id}", pair.weight)
        chosen, rejected = (
            fit(f"pair {pair.pair_id}", pair.prompt_ids, ids, max_length)
            for ids in (pair.chosen_ids, pair.rejected_ids)
        )
        fitted.append(replace(pair, prompt_ids=tuple(pair.prompt_ids), chosen_ids=chosen, rejected_ids=rejected))
    return fitted


def fit_completions(examples: Sequence[CompletionExample], max_length: int) -> list[CompletionExample]:
    """Examples that fit into ``max_length`` tokens; see :func:`fit`."""
    fitted = []
    for example in examples:
        _check_weight(f"example {example.example_id}", example.weight)
        ids = fit(f"example {example.example_id}", example.prompt_ids, example.completion_ids, max_length)
        fitted.append(replace(example, prompt_ids=tuple(example.prompt_ids), completion_ids=ids))
    return fitted


def fit_labels(examples: Sequence[LabelExample], max_length: int) -> list[LabelExample]:
    """Examples that fit into ``max_length`` tokens; see :func:`fit`."""
    fitted = []
    for example in examples:
        name = f"label {example.label_id}"
        _check_weight(name, example.weight)
        ids = fit(name, example.prompt_ids, example.completion_ids, max_length)
        fitted.append(replace(example, prompt_ids=tuple(example.prompt_ids), completion_ids=ids))
    return fitted


def fit_rankings(examples: Sequence[RankingExample], max_length: int) -> list[RankingExample]:
    """Rankings whose completions each fit into ``max_length`` tokens; see :func:`fit`.

    Raises:
        BadInput: also where a ranking ranks nothing: fewer than two completions, or no two different scores.
    """
    fitted = []
    for example in examples:
        name = f"ranking {example.ranking_id}"
        _check_weight(name, example.weight)
        if len(example.completions) != len(example.scores) or not all(map(math.isfinite, example.scores)):
            raise BadInput(
                f"{name}: {len(example.completions)} completions with scores {list(example.scores)}; every one needs a "
                "number"
            )
        if len(example.scores) < 2 or max(example.scores) - min(example.scores) <= TIED:
            raise BadInput(
                f"{name}: scores {list(example.scores)} rank nothing; let the pair builder leave such prompts out"
            )
        ids = tuple(fit(name, example.prompt_ids, completion, max_length) for completion in example.completions)
        fitted.append(replace(example, prompt_ids=tuple(example.prompt_ids), completions=ids))
    return fitted


def _check_weight(name: str, weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise BadInput(f"{name}: weight {weight} must be a number of at least 0")


def pair_sequences(pairs: Sequence[PairExample]) -> list[TokenSequence]:
    """[chosen of each pair ..., rejected of each pair ...], so that halves line up as in a batch."""
    chosen = [TokenSequence(p.prompt_ids, p.chosen_ids) for p in pairs]
    return chosen + [TokenSequence(p.prompt_ids, p.rejected_ids) for p in pairs]


def pair_columns(
    pairs: Sequence[PairExample], reference: Sequence[float] | None, reads: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Columns of trl.DPOTrainer's collator, plus ``weight`` and those that the loss ``reads``.

    ``reference`` holds summed log-probabilities in the order of :func:`pair_sequences`; None for a loss without one.
    """
    columns: dict[str, list[Any]] = {
        "prompt_ids": [list(p.prompt_ids) for p in pairs],
        "chosen_ids": [list(p.chosen_ids) for p in pairs],
        "rejected_ids": [list(p.rejected_ids) for p in pairs],
        "weight": [float(p.weight) for p in pairs],
    }
    if reference is not None:
        columns["ref_chosen_logps"] = list(reference[: len(pairs)])
        columns["ref_rejected_logps"] = list(reference[len(pairs) :])
    return {**columns, **{name: [float(getattr(p, name)) for p in pairs] for name in sorted(reads)}}


#: Column -> (what a value must be, how to get such pairs).
_USABLE: dict[str, tuple[str, str]] = {
    "margin": ("a number above 0", "drop ties, with pair.min_margin or pair.strength.drop_between"),
    "chosen_score": ("a win rate in [0, 1]", "take a judge or pair builder that gives win rates, or set train.hard"),
    "rejected_score": ("a win rate in [0, 1]", "take a judge or pair builder that gives win rates, or set train.hard"),
    "smoothing": ("a number in [0, 0.5]", "set pair.strength, which records it, or give label_smoothing a number"),
}


def check_columns(pairs: Sequence[PairExample], loss: str, reads: Collection[str]) -> None:
    """Make sure that every pair has what ``loss`` reads of it.

    Raises:
        BadInput: the first pair that has not.
    """
    for name in sorted(reads):
        wanted, remedy = _USABLE[name]
        for pair in pairs:
            value = getattr(pair, name)
            if not _usable(name, value):
                raise BadInput(
                    f"pair {pair.pair_id}: the loss '{loss}' reads its {name}, {value}, and needs {wanted}; {remedy}"
                )


def _usable(name: str, value: float | None) -> bool:
    if value is None or not math.isfinite(value):
        return False
    return value > 0 if name == "margin" else 0 <= value <= (0.5 if name == "smoothing" else 1)


def completion_columns(examples: Sequence[CompletionExample]) -> dict[str, list[Any]]:
    """Columns of trl.SFTTrainer's collator, plus ``weight``; labels are -100 on the prompt."""
    return {
        "input_ids": [[*e.prompt_ids, *e.completion_ids] for e in examples],
        "labels": [[-100] * len(e.prompt_ids) + list(e.completion_ids) for e in examples],
        "weight": [float(e.weight) for e in examples],
    }


def ranking_columns(examples: Sequence[RankingExample]) -> dict[str, list[Any]]:
    """Columns of listwise_trl.RankingCollator."""
    return {
        "prompt_ids": [list(e.prompt_ids) for e in examples],
        "completions": [[list(ids) for ids in e.completions] for e in examples],
        "scores": [[float(score) for score in e.scores] for e in examples],
        "weight": [float(e.weight) for e in examples],
    }


def training_order(
    lengths: Sequence[int],
    epochs: float,
    batch_size: int,
    seed: int,
    bucketing: bool,
    groups: Sequence[str | None] | None = None,
) -> list[int]:
    """Indices of the examples in the order of training, all epochs in one list.

    Every epoch is its own shuffle; a fractional last epoch uses the first part of one. Inside an
    optimizer step examples are sorted by length: the step's gradient is the same, and its
    micro-batches need less padding. ``bucketing`` sorts over 16 steps and shuffles those steps, so
    that a whole step has similar lengths.

    Examples of one of ``groups`` are neighbours, and in one step where they fit (and are not bucketed).
    """
    unit_of, units = _units(len(lengths), groups)
    wanted = max(1, round(epochs * len(lengths)))
    order: list[int] = []
    for epoch in range(math.ceil(wanted / len(lengths))):
        drawn = list(units)
        random.Random(derive_seed(seed, "training_order", epoch)).shuffle(drawn)
        # An epoch goes on filling the step that the one before has begun.
        order += _whole_units(drawn, batch_size, len(order) % batch_size)
    order = order[:wanted]
    if bucketing:
        order = _bucketed(order, lengths, batch_size, random.Random(derive_seed(seed, "bucket_order")))
    longest = [max(lengths[i] for i in unit) for unit in units]
    steps = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [
        index
        for step in steps
        for index in sorted(step, key=lambda i: (longest[unit_of[i]], unit_of[i], lengths[i], i))
    ]


def _units(n: int, groups: Sequence[str | None] | None) -> tuple[list[int], list[list[int]]]:
    """(the unit of each of ``n`` examples, the examples of each unit): a group, or an example that is in none."""
    unit_of: list[int] = []
    units: list[list[int]] = []
    places: dict[str, int] = {}
    for index, group in enumerate(groups if groups is not None else [None] * n):
        place = len(units) if group is None else places.setdefault(group, len(units))
        if place == len(units):
            units.append([])
        units[place].append(index)
        unit_of.append(place)
    return unit_of, units


def _whole_units(units: Sequence[Sequence[int]], batch_size: int, used: int) -> list[int]:
    """Examples of ``units`` in their order, but that a unit which a step has no room for waits for the next one.

    ``used`` of the first step's places are taken. A unit is torn where none of those to come fits.
    """
    order: list[int] = []
    waiting: list[Sequence[int]] = []
    room = batch_size - used
    for unit in units:
        waiting.append(unit)
        while waiting:
            fits = (u for u in waiting if len(u) <= room or (room == batch_size and len(u) > batch_size))
            # Those that waited longest come first.
            taken = next(fits, waiting[0] if len(waiting) > _WAITING_STEPS * batch_size else None)
            if taken is None:
                break
            waiting.remove(taken)
            order += taken
            room = (room - len(taken)) % batch_size or batch_size
    return [*order, *(index for unit in waiting for index in unit)]


def easy_to_hard(pairs: Sequence[PairExample]) -> list[int]:
    """Indices by margin, the largest first: pairs that differ most are the easiest (arXiv 2310.02263).

    Raises:
        BadInput: a margin that is no number.
    """
    for pair in pairs:
        if not math.isfinite(pair.margin):
            raise BadInput(f"pair {pair.pair_id}: margin {pair.margin} has no place in the order easy_to_hard")
    return sorted(range(len(pairs)), key=lambda i: (-pairs[i].margin, pairs[i].pair_id))


def repeated(indices: Sequence[int], epochs: float) -> list[int]:
    """``indices`` in the same order in every epoch; a fractional last epoch uses the first part."""
    wanted = max(1, round(epochs * len(indices)))
    return (list(indices) * math.ceil(epochs))[:wanted]


def _bucketed(order: list[int], lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[int]:
    window = batch_size * _BUCKET_STEPS
    steps = []
    for start in range(0, len(order), window):
        ranked = sorted(order[start : start + window], key=lambda i: (lengths[i], i))
        steps += [ranked[first : first + batch_size] for first in range(0, len(ranked), batch_size)]
    # A short step must stay last: elsewhere it would shift every later step's boundaries.
    full = [step for step in steps if len(step) == batch_size]
    rng.shuffle(full)
    return [index for step in full + [s for s in steps if len(s) < batch_size] for index in step]
