"""Stage ``pair``: judged candidates become preference pairs; prompts without one are counted with a reason."""

from __future__ import annotations

from collections import Counter

from selfalign.errors import EmptyStage
from selfalign.identity import canonical, content_id
from selfalign.judges.scores import group
from selfalign.protocols import PairBuilder
from selfalign.registry import find
from selfalign.stages.context import RunContext
from selfalign.stages.judge import build_judge
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.types import Candidate, Event, Judgement, Prompt


def fingerprint(context: RunContext, round: int) -> str:
    return content_id("pair", upstream(context, round, "judge"), context.config.pair.model_dump(mode="json"))


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    judge = build_judge(context, round)
    where, values = "round = ? and split = 'train'", (round,)
    groups = group(
        context.store.rows(Prompt, where, values),
        context.store.rows(Candidate, where, values),
        context.store.rows(
            Judgement, "round = ? and judge = ? and judge_hash = ?", (round, judge.name, judge.judge_hash)
        ),
        judge,
    )
    builder: PairBuilder = find("pair", context.config.pair.id).load()(context.config.pair)
    pairing = builder.build(groups, round)
    events = [
        Event(content_id("no_pair", round, builder.name, u.prompt_id), round, "pair", "no_pair", u.prompt_id, u.reason,
              canonical(dict(u.detail)))
        for u in pairing.unpaired
    ]  # fmt: skip
    events += [
        Event(content_id("pair_strength", round, builder.name, note.pair_id), round, "pair", "pair_strength",
              note.pair_id, note.reason, canonical(dict(note.detail)))
        for note in pairing.notes
    ]  # fmt: skip
    context.store.insert([*pairing.pairs, *events])
    reasons = Counter(u.reason for u in pairing.unpaired)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none left out"
    if not pairing.pairs:
        raise EmptyStage(
            f"round {round}: no pair from {len(groups)} prompts ({why}); ask for more candidates, a higher temperature, "
            f"a lower pair.min_margin, or another judge"
        )
    with_pair = len({p.prompt_id for p in pairing.pairs})
    margin = sum(p.margin for p in pairing.pairs) / len(pairing.pairs)
    return StageOutcome(
        len(groups), len(pairing.pairs),
        f"{len(pairing.pairs)} pairs from {with_pair} of {len(groups)} prompts ({why}), mean margin {margin:.2f}",
        {"unpaired": dict(reasons)},
    )  # fmt: skip
