"""How what a builder picked becomes rows: ids, judge, votes; one row or one reason for every prompt. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.pairing.by_strength import apply
from selfalign.pairing.sides import Side, Sides
from selfalign.pairing.strength import StrengthSettings, shared_differences
from selfalign.protocols import PairingInput
from selfalign.types import Pair, Pairing, PairNote, Ranking, ScoredGroup, UnaryLabel, Unpaired


class Named(Protocol):
    """What a row's id and ``builder`` column need of a builder."""

    @property
    def name(self) -> str:
        """As it is registered."""
        ...

    @property
    def config(self) -> Settings:
        """What it was built with."""
        ...


#: The pairs of a prompt (at least one), or why there is none.
Pick = Callable[[ScoredGroup], Sequence[Sides] | Unpaired]


def build_pairs(
    data: PairingInput,
    builder: Named,
    pick: Pick,
    *,
    strength: StrengthSettings | None = None,
    decided_by: str | None = None,
    note: Callable[[Pair, Side, Side], PairNote] | None = None,
) -> Pairing:
    """Every group's pairs as ``pick`` has them, then by ``strength``; each prompt has a pair or one reason.

    ``decided_by`` is the pairs' judge, where that is not the groups'; ``note`` writes down more of each pair.
    """
    pairs: list[Pair] = []
    reasons: list[Unpaired] = []
    notes: list[PairNote] = []
    for group in data.groups:
        picked = pick(group)
        if isinstance(picked, Unpaired):
            reasons.append(picked)
            continue
        for chosen, rejected in picked:
            made = pair(data.round, group, chosen, rejected, builder, decided_by)
            pairs.append(made)
            notes += [note(made, chosen, rejected)] if note else []
    pairing = Pairing(tuple(pairs), tuple(reasons), tuple(notes))
    if strength is None:
        return pairing
    votes = {c.candidate.candidate_id: c.votes for group in data.groups for c in group.candidates}
    differences = {p.pair_id: shared_differences(votes[p.chosen_id], votes[p.rejected_id]) for p in pairs}
    return _one_reason(apply(pairing, differences, strength))


def score_note(pair: Pair, chosen: Side, rejected: Side, reason: str, **detail: Any) -> PairNote:
    """What the judge said of a pair whose scores are the builder's own figures, so that both are kept."""
    judged = {"chosen_judged": chosen.scored.score, "rejected_judged": rejected.scored.score}
    return PairNote(pair.pair_id, reason, {**judged, **detail}, kind="pair_score")


def label(round: int, group: ScoredGroup, side: Side, desirable: bool, builder: Named) -> UnaryLabel:
    """The row of one labelled candidate."""
    candidate_id = side.candidate.candidate_id
    return UnaryLabel(
        label_id=content_id("label", round, group.prompt.prompt_id, candidate_id, desirable, _settings(builder)),
        prompt_id=group.prompt.prompt_id,
        round=round,
        candidate_id=candidate_id,
        label=desirable,
        score=side.score,
        builder=builder.name,
        weight=1.0,
    )


def ranking(round: int, group: ScoredGroup, sides: Sequence[Side], builder: Named) -> Ranking:
    """The row of a list of candidates; ``sides`` are in the order that the row keeps."""
    ids = [side.candidate.candidate_id for side in sides]
    return Ranking(
        ranking_id=content_id("ranking", round, group.prompt.prompt_id, ids, _settings(builder)),
        prompt_id=group.prompt.prompt_id,
        round=round,
        candidate_ids=tuple(ids),
        scores=tuple(side.score for side in sides),
        judge=group.judge,
        builder=builder.name,
        weight=1.0,
    )


def pair(
    round: int, group: ScoredGroup, chosen: Side, rejected: Side, builder: Named, decided_by: str | None = None
) -> Pair:
    """The row of one pair; ``decided_by`` is its judge, where that is not the group's."""
    ids = (chosen.candidate.candidate_id, rejected.candidate.candidate_id)
    return Pair(
        pair_id=content_id("pair", round, group.prompt.prompt_id, *ids, _settings(builder)),
        prompt_id=group.prompt.prompt_id,
        round=round,
        chosen_id=ids[0],
        rejected_id=ids[1],
        chosen_score=chosen.score,
        rejected_score=rejected.score,
        margin=chosen.score - rejected.score,
        judge=group.judge if decided_by is None else decided_by,
        builder=builder.name,
        n_votes=min(chosen.scored.n_votes, rejected.scored.n_votes),
        weight=1.0,
        chosen_tokens=chosen.candidate.n_tokens,
        rejected_tokens=rejected.candidate.n_tokens,
    )


def _settings(builder: Named) -> dict[str, Any]:
    return builder.config.model_dump(mode="json")


def _one_reason(pairing: Pairing) -> Pairing:
    """Without reasons of prompts that still have a pair, and with one of each other prompt."""
    paired = {pair.prompt_id for pair in pairing.pairs}
    reasons: dict[str, Unpaired] = {}
    for reason in pairing.unpaired:
        if reason.prompt_id not in paired:
            reasons.setdefault(reason.prompt_id, reason)
    return Pairing(pairing.pairs, tuple(reasons.values()), pairing.notes)
