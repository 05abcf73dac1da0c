"""Stage ``gate``, the last of a round: rules over its figures decide whether the run goes on.

What a rule says and why is an event of kind ``gate`` (view ``gate_decisions``), whatever follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from selfalign.config import NO_ROWS
from selfalign.errors import GateRollsBack, GateStopped
from selfalign.gates.rules import Ruling, in_words, rule_on, strongest
from selfalign.gates.settings import GateSettings
from selfalign.identity import canonical, content_id
from selfalign.protocols import Gate, GateInput
from selfalign.registry import find
from selfalign.stages import prompts
from selfalign.stages.context import RunContext
from selfalign.stages.judge import build_judge, is_judged
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.set_aside import go_back
from selfalign.store.branches import Place
from selfalign.types import Evaluation, Event

_ROLLED_BACK = "rolled_back"


def fingerprint(context: RunContext, round: int, before: Sequence[str]) -> str:
    """``before``: the round's stages, whose figures are looked at; of earlier rounds their gates stand for them."""
    places = [*((round, name) for name in before), (round - 1, "gate")]
    records = [context.store.stage(*place) for place in places]
    made = [record.fingerprint if record and record.status == "done" else None for record in records]
    teaches_next = ["teaches next"] if context.config.teaches(round + 1) else []
    return content_id(
        "gate", made, *teaches_next, [settings.model_dump(mode="json") for settings in context.config.gates]
    )


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    """Decide, write the decisions down, and raise where the run may not go on.

    Raises:
        GateStopped: a rule with action "stop" failed.
        GateRollsBack: a rule with action "roll_back" failed; nothing has been moved yet.
    """
    data = _figures(context, round)
    # Rounds that follow were made from this one: what they are worth is not for this one's gate to say.
    followed = context.store.query("select 1 from stages where round > ? limit 1", (round,)).num_rows > 0
    gates: list[tuple[Gate, GateSettings]] = [
        (find("gate", settings.id).load()(settings), settings) for settings in context.config.gates
    ]
    rulings = rule_on(gates, data, can_roll_back=round > 0 and not followed)
    events = [_event(round, number, ruling) for number, ruling in enumerate(rulings)]
    context.store.insert(events)
    action = strongest(rulings)
    if action in ("stop", "roll_back"):
        decisive = [ruling for ruling in rulings if ruling.failed and ruling.action == action]
        error = GateRollsBack if action == "roll_back" else GateStopped
        raise error(f"round {round}: {_why(decisive)}{_loosen(context, decisive) if action == 'stop' else ''}")
    failed = [ruling for ruling in rulings if ruling.failed]
    for ruling in failed:
        context.reporter.note(f"warning: round {round}: {in_words(ruling)}; {ruling.decision.remedy}")
    asks = [ruling for ruling in failed if ruling.action == "ask"]
    count = {v: sum(r.decision.verdict == v for r in rulings) for v in ("pass", "fail", "not_applicable")}
    return StageOutcome(
        len(data.evaluations), len(events),
        f"{count['pass']} decisions pass, {count['fail']} fail, {count['not_applicable']} do not apply",
        {**count, **({"asks": _why(asks)} if asks else {})},
    )  # fmt: skip


def _figures(context: RunContext, round: int) -> GateInput:
    yields = context.store.query(
        "select round, sum(prompts) filter (where reason = 'paired')::bigint as paired, sum(prompts)::bigint as prompts "
        "from yields where round <= ? group by round",
        (round,),
    ).to_pylist()
    return GateInput(
        round,
        context.store.rows(Evaluation, "round <= ?", (round,)),
        {row["round"]: (row["paired"] or 0, row["prompts"]) for row in yields},
        judges_next=not context.config.teaches(round + 1),
    )


def _event(round: int, number: int, ruling: Ruling) -> Event:
    decision = ruling.decision
    detail = {
        "rule": ruling.rule, "gate": ruling.index, "action": ruling.action,
        "done": ruling.action if ruling.failed else None, **asdict(decision),
    }  # fmt: skip
    identity = content_id("gate", round, ruling.index, number, ruling.rule, decision.figure)
    return Event(identity, round, "gate", "gate", ruling.rule, in_words(ruling), canonical(detail))


def _why(rulings: Sequence[Ruling]) -> str:
    remedies = dict.fromkeys(ruling.decision.remedy for ruling in rulings)
    return "; ".join([*(in_words(ruling) for ruling in rulings), *remedies])


def _loosen(context: RunContext, rulings: Sequence[Ruling]) -> str:
    settings = " ".join(f"--set gates.{index}.action=continue" for index in dict.fromkeys(r.index for r in rulings))
    return (
        f"; every row is kept, and a start after a change goes on; to go on all the same: selfalign resume "
        f"{context.workspace.path} {settings}"
    )


# -- what follows -----------------------------------------------------------------------------------------


def asked(context: RunContext, round: int) -> str | None:
    """Why the gate of ``round`` wants a person's word before the next one; None if it does not."""
    if not any(settings.action == "ask" for settings in context.config.gates):
        return None  # every stage asks this: nearly always there is nothing to read
    record = context.store.stage(round, "gate")
    if record is None or record.status != "done":
        return None
    found: str | None = json.loads(record.detail or "{}").get("asks")
    return found


def roll_back(context: RunContext, round: int, places: Sequence[Place], why: GateRollsBack) -> GateStopped:
    """Set the round's stages aside as a branch, and remember why; returns what to tell people."""
    made_of = _made_of(context, round)
    known = context.store.query("select count(*) as n from branches")["n"][0].as_py()
    event = Event(
        content_id(_ROLLED_BACK, round, made_of, known), round, None, _ROLLED_BACK, None, str(why),
        canonical({"made_of": made_of}),
    )  # fmt: skip
    branch = go_back(context, places, "rollback", f"rolled back by its gate: {why}", event)
    return GateStopped(
        f"{why}; the round is rolled back: its rows are branch {branch}, the run stands at M{round - 1}; "
        f"{_how_to_go_on(context)}"
    )


def refuse_to_repeat(context: RunContext, round: int) -> None:
    """Nothing of ``round`` has been made: raise where it was rolled back before and would be the same again.

    Raises:
        GateStopped: it would.
    """
    remembered = context.store.query(
        "select message, detail from events where kind = ? and round = ? order by created_at desc",
        (_ROLLED_BACK, round),
    ).to_pylist()
    if not remembered:
        return
    made_of = _made_of(context, round)
    for event in remembered:
        if json.loads(event["detail"])["made_of"] == made_of:
            raise GateStopped(
                f"round {round} was rolled back, and nothing that it is made of has changed: {event['message']}; "
                f"{_how_to_go_on(context)}"
            )


def _made_of(context: RunContext, round: int) -> str:
    """Hash of all that decides what the round would be: parent, prompts, rubric, and every setting that counts."""
    # A setting that is not there says nothing: rounds set aside before there was one are still known.
    settings = {
        name: value for name, value in context.config.snapshot().items() if name not in NO_ROWS and value is not None
    }
    settings["prompts"].pop("scan")  # which prompts it leaves is in their fingerprints
    return content_id(
        _ROLLED_BACK, round, context.weights(round - 1).weights_hash, prompts.fingerprint(context, 0),
        prompts.fingerprint(context, round), build_judge(context, round).judge_hash if is_judged(context, round) else None,
        settings,
    )  # fmt: skip


def _how_to_go_on(context: RunContext) -> str:
    return (
        f"change a setting and start again with --on-change keep, which leaves the rounds before as they are; or set "
        f"the gate's action to continue, which takes the round back as it was (selfalign branches "
        f"{context.workspace.path})"
    )
