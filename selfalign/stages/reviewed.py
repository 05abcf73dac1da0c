"""Reviews in training: a pair that a person rejected is not trained on, a flipped one with its sides exchanged.

What a training does because of reviews is settled once, before its fingerprint is taken for the first time, and kept as
rows of ``overrides``: a kill in the middle of a training changes nothing of what it trains on, and a review that comes
after it concerns later rounds only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from selfalign.identity import canonical, content_id
from selfalign.reviews import latest, read, standing
from selfalign.stages import replay
from selfalign.stages.context import RunContext
from selfalign.stages.set_aside import go_back
from selfalign.types import Event, Override, Pair, Review

#: By the id of a pair.
Decisions = Mapping[str, Literal["flip", "reject"]]


def take_in(context: RunContext) -> None:
    """Reviews of the inbox become rows of ``reviews``; those that are there already stay as they are."""
    inbox = read(context.workspace.reviews)
    if inbox.unreadable:
        lines = ", ".join(map(str, inbox.unreadable[:5])) + (" ..." if len(inbox.unreadable) > 5 else "")
        context.reporter.note(f"{context.workspace.reviews}: no reviews in lines {lines}; passed over")
    if not inbox.reviews:
        return
    known = {review.review_id for review in context.store.rows(Review)}
    new = [review for review in inbox.reviews if review.review_id not in known]
    if new:
        context.store.insert(new)
        context.reporter.note(f"reviews: {len(new)} taken in from {context.workspace.reviews.name}")


def settle(context: RunContext, round: int) -> None:
    """Decide what the training of ``round`` will do because of reviews, unless it has begun."""
    if context.store.stage(round, "train") is not None:
        return
    take_in(context)
    wanted = _wanted(context, round)
    if wanted != context.store.rows(Override, "round = ?", (round,)):
        with context.store.write() as transaction:
            transaction.execute("DELETE FROM overrides WHERE round = ?", [round])
            transaction.insert(wanted)


def settle_as(context: RunContext, round: int, branch: str) -> None:
    """As the training of ``round`` in ``branch`` had it."""
    columns = "override_id, round, from_round, pair_id, decision, review_id, digest"
    with context.store.write() as transaction:
        transaction.execute("DELETE FROM overrides WHERE round = ?", [round])
        transaction.execute(
            f"INSERT INTO overrides ({columns}) SELECT {columns} FROM archived_overrides WHERE branch = ? AND round = ?",
            [branch, round],
        )


def differs_in(context: RunContext, round: int, branch: str) -> bool:
    """Whether ``branch`` has a training of ``round`` that did otherwise because of reviews than the run's has."""
    found = context.store.query(
        "select s.round, (select list(o.override_id order by o.override_id) from archived_overrides o "
        "where o.branch = s.branch and o.round = s.round) as settled "
        "from archived_stages s where s.branch = ? and s.round = ? and s.stage = 'train' and s.status = 'done' limit 1",
        (branch, round),
    ).to_pylist()
    own = sorted(row.override_id for row in context.store.rows(Override, "round = ?", (round,)))
    return bool(found) and (found[0]["settled"] or []) != own


def reconsider(context: RunContext) -> None:
    """Set a training aside that found every pair rejected, where the reviews say otherwise by now."""
    found = context.store.query("select round from stages where stage = 'train' and status = 'empty'").to_pylist()
    for row in found:
        round = row["round"]
        if _wanted(context, round) != context.store.rows(Override, "round = ?", (round,)):
            go_back(context, [(round, "train")], "config", "reviews changed since they left nothing to train on")


def decisions(context: RunContext, round: int) -> Decisions:
    """What the training of ``round`` does otherwise than its pairs say, as it was settled."""
    return {row.pair_id: row.decision for row in context.store.rows(Override, "round = ?", (round,))}


def made_of(context: RunContext, round: int) -> list[Any]:
    """What the training depends on, for its fingerprint; empty where no review changes it."""
    settled = sorted(decisions(context, round).items())
    return ["reviews", *([pair_id, decision] for pair_id, decision in settled)] if settled else []


def applied(rows: Mapping[str, Sequence[Any]], changed: Decisions) -> dict[str, list[Any]]:
    """``rows``, by name (examples.KINDS), as they are trained on; a name without any left is left out. Pure."""
    kept = {
        name: [_as_said(row, changed) for row in members if not _rejected(row, changed)]
        for name, members in rows.items()
    }
    return {name: members for name, members in kept.items() if members}


def certain(strength: Event, changed: Decisions) -> Event:
    """A ``pair_strength`` as the training takes it: of a label that a person gave, no chance of being wrong is known."""
    if strength.subject_id is None or changed.get(strength.subject_id) != "flip":
        return strength
    return replace(strength, detail=canonical({"smoothing": 0.0}))


def now(context: RunContext) -> Decisions:
    """What reviews say at this moment, the inbox included; for what trains beside the rounds. Writes nothing."""
    said = standing(context.store, context.workspace.reviews)
    return {pair_id: review.decision for pair_id, review in said.items() if review.decision in ("flip", "reject")}


def in_words(changed: Decisions) -> str:
    """``, reviews: 2 flipped, 1 left out``; empty where there are none."""
    counts = Counter[str](changed.values())
    parts = [f"{counts[one]} {word}" for one, word in (("flip", "flipped"), ("reject", "left out")) if counts[one]]
    return f", reviews: {', '.join(parts)}" if parts else ""


def _wanted(context: RunContext, round: int) -> list[Override]:
    """What reviews that were taken in change of the rows that ``round`` trains on, in the store's order."""
    said = latest(context.store.rows(Review))
    changing = {pair_id: review for pair_id, review in said.items() if review.decision in ("flip", "reject")}
    if not changing or context.config.teaches(round):
        return []
    own = context.store.rows(Pair, "round = ? and pair_id in (select unnest(?))", (round, sorted(changing)))
    pairs = [*own, *(pair for pair in replay.replayed(context, round).get("pairs", ()) if pair.pair_id in changing)]
    overrides = [_override(round, pair, changing[pair.pair_id]) for pair in pairs]
    return sorted(overrides, key=lambda one: (one.from_round, one.pair_id, one.override_id))


def _override(round: int, pair: Pair, review: Review) -> Override:
    decision: Any = review.decision
    identity = content_id("override", round, pair.pair_id, decision, review.review_id)
    return Override(identity, round, pair.round, pair.pair_id, decision, review.review_id)


def _rejected(row: Any, changed: Decisions) -> bool:
    return isinstance(row, Pair) and changed.get(row.pair_id) == "reject"


def _as_said(row: Any, changed: Decisions) -> Any:
    """The answers change places; scores and margin stay where they are: as sure as the judge was, the other way round."""
    if not isinstance(row, Pair) or changed.get(row.pair_id) != "flip":
        return row
    return replace(row, chosen_id=row.rejected_id, rejected_id=row.chosen_id)
