"""Pairs changed by the strength of the votes behind them (strength.py); any builder's pairs will do. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.pairing.strength import Strength, StrengthSettings, flipped, lowest, smoothing, strength, weight
from selfalign.types import Pair, Pairing, PairNote, Unpaired


def apply(pairing: Pairing, differences: Mapping[str, Sequence[float]], settings: StrengthSettings) -> Pairing:
    """``pairing`` after ``settings``; ``differences`` are by pair_id, chosen - rejected of each voter.

    Every pair that stays has a note with mean, std, votes and smoothing (the value for a loss that takes one). A pair
    whose sides were exchanged keeps its pair_id, since that names the pair and what was to be done with it, and
    its candidates' scores, so that chosen_score is then below rejected_score.
    """
    found = {pair_id: strength(own) for pair_id, own in differences.items() if len(own) >= settings.min_votes}
    means = {pair_id: own.mean for pair_id, own in found.items()}
    to_flip = lowest(means, settings.flip_bottom) | _below(means, settings.flip_below)
    pairs: list[Pair] = []
    unpaired, notes = list(pairing.unpaired), list(pairing.notes)
    for pair in pairing.pairs:
        own = found.get(pair.pair_id)
        if own is None:
            shared = {"votes": len(differences[pair.pair_id])}
            unpaired.append(Unpaired(pair.prompt_id, "too_few_shared_votes", shared))
        elif settings.drop_between is not None and settings.drop_between[0] <= own.mean <= settings.drop_between[1]:
            unpaired.append(Unpaired(pair.prompt_id, "weak_preference", _figures(own)))
        else:
            flip = pair.pair_id in to_flip
            changed, note = _changed(pair, flipped(own) if flip else own, flip, settings)
            pairs.append(changed)
            notes.append(note)
    return Pairing(tuple(pairs), tuple(unpaired), tuple(notes))


def _below(means: Mapping[str, float], threshold: float | None) -> frozenset[str]:
    return frozenset(pair_id for pair_id, mean in means.items() if threshold is not None and mean < threshold)


def _changed(pair: Pair, own: Strength, flip: bool, settings: StrengthSettings) -> tuple[Pair, PairNote]:
    detail: dict[str, Any] = {**_figures(own), "smoothing": smoothing(own), "score_margin": pair.margin}
    if flip:
        pair = dataclasses.replace(
            pair, chosen_id=pair.rejected_id, rejected_id=pair.chosen_id, chosen_score=pair.rejected_score,
            rejected_score=pair.chosen_score, margin=-pair.margin,
        )  # fmt: skip
    margin = own.mean if settings.margin == "mean" else pair.margin
    counts = weight(own) if settings.weight == "std" else pair.weight
    changed = dataclasses.replace(pair, margin=margin, weight=counts, n_votes=own.n)
    return changed, PairNote(pair.pair_id, "flipped" if flip else "kept", detail)


def _figures(own: Strength) -> dict[str, Any]:
    return {"mean": own.mean, "std": own.std, "votes": own.n}
