"""Stage ``pair``: judged candidates become pairs, labels or rankings; prompts without any are counted with a reason."""

from __future__ import annotations

from collections import Counter

from selfalign.errors import EmptyStage
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.protocols import PairBuilder, PairingInput
from selfalign.registry import find
from selfalign.resampling.selections import only_accepted
from selfalign.stages.context import RunContext
from selfalign.stages.judge import is_judged, scored_groups
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.types import Event, Pair, Pairing, Ranking, Selection, UnaryLabel


def fingerprint(context: RunContext, round: int) -> str:
    before = "resample" if context.config.resample else "judge" if is_judged(context, round) else "generate"
    return content_id("pair", upstream(context, round, before), context.config.builder(round).model_dump(mode="json"))


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    groups = scored_groups(context, round)
    if context.config.resample:
        groups = only_accepted(groups, context.store.rows(Selection, "round = ?", (round,)))
    settings = context.config.builder(round)
    builder: PairBuilder = find("pair", settings.id).load()(settings)
    pairing = builder.build(PairingInput(round, groups, derive_seed(context.config.seed, round, "pair")))
    events = [
        Event(content_id("no_pair", round, builder.name, u.prompt_id), round, "pair", "no_pair", u.prompt_id, u.reason,
              canonical(dict(u.detail)))
        for u in pairing.unpaired
    ]  # fmt: skip
    events += [
        Event(content_id(note.kind, round, builder.name, note.pair_id), round, "pair", note.kind,
              note.pair_id, note.reason, canonical(dict(note.detail)))
        for note in pairing.notes
    ]  # fmt: skip
    _refuse_one_class(context, round, pairing)
    made: list[Pair | UnaryLabel | Ranking] = [*pairing.pairs, *pairing.labels, *pairing.rankings]
    context.store.insert([*made, *events])
    reasons = Counter(u.reason for u in pairing.unpaired)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none left out"
    if not made:
        raise EmptyStage(
            f"round {round}: none of the {builder.makes} wanted from {len(groups)} prompts ({why}); ask for more "
            f"candidates, a higher temperature, a lower margin in pair, or another judge"
        )
    used = len({row.prompt_id for row in made})
    figure = _figure(pairing)
    return StageOutcome(
        len(groups), len(made), f"{len(made)} {builder.makes} from {used} of {len(groups)} prompts ({why}){figure}",
        {
            "unpaired": dict(reasons), **({"labels": _classes(pairing)} if pairing.labels else {}),
            **({"skipped": dict(pairing.skipped)} if pairing.skipped else {}),
        },
    )  # fmt: skip


def _refuse_one_class(context: RunContext, round: int, pairing: Pairing) -> None:
    """A loss over wanted and unwanted answers has nothing to tell apart where all are of one kind."""
    needed = getattr(find("train", context.config.train.id).load(), "needs", "pairs")
    counts = _classes(pairing)
    if needed == "labels" and pairing.labels and not all(counts.values()):
        there, missing = ("desirable", "undesirable") if counts["desirable"] else ("undesirable", "desirable")
        raise EmptyStage(
            f"round {round}: all {len(pairing.labels)} labels are {there} and train '{context.config.train.id}' needs both; "
            f"move the {missing} threshold of pair '{context.config.pair.id}', ask for more candidates or a higher "
            f"temperature, or use another judge"
        )


def _classes(pairing: Pairing) -> dict[str, int]:
    desirable = sum(label.label for label in pairing.labels)
    return {"desirable": desirable, "undesirable": len(pairing.labels) - desirable}


def _figure(pairing: Pairing) -> str:
    """What people want to see of the rows at once."""
    if pairing.pairs:
        return f", mean margin {sum(p.margin for p in pairing.pairs) / len(pairing.pairs):.2f}"
    if pairing.labels:
        counts = _classes(pairing)
        return f", {counts['desirable']} desirable and {counts['undesirable']} undesirable"
    return ""
