"""The only module that names every stage, their order, and what each depends on.

    round 0   prompts(held-out) [-> preferences] -> answer [-> capability] -> evaluate -> calibrate -> gate
    round t   prompts -> generate -> judge [-> resample] -> pair [-> meta_judge] -> train -> answer -> log_ratio
              [-> compare -> drift -> capability] -> evaluate -> calibrate -> gate

Stages in brackets are left out unless the config asks for them, and ``judge`` where it names none. A round that
teaches the judge has ``lessons`` in place of ``resample``, ``pair`` and ``meta_judge``, and its candidates are only
verified.

Round t starts from M_{t-1} and ends with M_t; what the config's ``policy`` changes of that is the business of ``train``
alone: M_{t-1} answers and judges all the same. Calling :func:`run_round_stage` for a stage that is done
does nothing, so running everything again is how a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType

from selfalign import control
from selfalign.config import RunConfig
from selfalign.disk import references
from selfalign.disk.retention import apply_retention
from selfalign.errors import GateRollsBack
from selfalign.failpoints import reach
from selfalign.stages import (
    calibrate,
    capability,
    compare,
    drift,
    evaluate,
    gate,
    generate,
    judge,
    lessons,
    log_ratio,
    meta_judge,
    pair,
    preferences,
    prompts,
    resample,
    reviewed,
    train,
)
from selfalign.stages.context import RunContext
from selfalign.stages.device_lock import holding_device
from selfalign.stages.ledger import StageOutcome, run_stage
from selfalign.store.branches import Place
from selfalign.store.store import Store

_MODULES: dict[str, ModuleType] = {
    "prompts": prompts, "preferences": preferences, "judge": judge, "resample": resample, "pair": pair, "meta_judge": meta_judge,
    "lessons": lessons, "train": train,
    "log_ratio": log_ratio, "compare": compare, "drift": drift, "capability": capability, "evaluate": evaluate,
    "calibrate": calibrate, "gate": gate,
}  # fmt: skip
_HOLD_A_MODEL = (
    "generate", "judge", "meta_judge", "train", "answer", "log_ratio", "compare", "drift", "capability", "calibrate",
)  # fmt: skip


#: Every stage there is, in the order in which a round runs them.
STAGES = (
    "prompts", "preferences", "generate", "judge", "resample", "pair", "meta_judge", "lessons", "train", "answer", "log_ratio",
    "compare", "drift",
    "capability", "evaluate", "calibrate", "gate",
)  # fmt: skip
#: Those whose rows the round trains on.
EXAMPLES = ("pair", "meta_judge", "lessons")
#: Of these round 0 has those that measure M_0.
_MEASURE = ("prompts", "preferences", "answer", "capability", "evaluate", "calibrate", "gate")


def stages_of(round: int, config: RunConfig) -> list[str]:
    """Names of a round's stages, in order."""
    settings, teaches = config.evaluate, config.teaches(round)
    candidates = not teaches or config.teach.verified
    wanted = {
        "prompts": round == 0 or candidates, "preferences": round == 0 and config.preferences, "generate": candidates,
        "judge": candidates and (teaches or config.judge is not None), "resample": config.resample and not teaches,
        "pair": not teaches, "meta_judge": config.meta_judges(round), "lessons": teaches,
        "log_ratio": settings.log_ratio, "compare": settings.win_rate, "drift": settings.drift,
        "capability": settings.capability, "calibrate": calibrate.enabled(config), "gate": config.gates,
    }  # fmt: skip
    return [name for name in (STAGES if round else _MEASURE) if wanted.get(name, True)]


def places(config: RunConfig, rounds: int) -> Iterator[Place]:
    """Every (round, stage) of rounds 0 ... ``rounds``, in order."""
    for round in range(rounds + 1):
        for name in stages_of(round, config):
            yield round, name


def in_order(found: Iterable[Place]) -> list[Place]:
    """``found`` in the order in which stages run."""
    return sorted(found, key=lambda place: (place[0], STAGES.index(place[1])))


def takes(round: int, name: str) -> list[Place]:
    """The stages whose results a stage works on."""
    parent = [(round - 1, "train")] if round > 1 else []
    return {
        "prompts": [],
        "preferences": [(0, "prompts")],
        "generate": [(round, "prompts"), *parent],
        "judge": [(round, "generate"), *parent],
        "resample": [(round, "judge")],
        "pair": [(round, "generate"), (round, "judge"), (round, "resample")],
        "meta_judge": [(round, "judge"), (round, "pair"), *parent],
        "lessons": [(round, "judge")],
        "train": [(0, "preferences"), (round, "pair"), (round, "meta_judge"), (round, "lessons"), *parent],
        "answer": [(0, "prompts"), *([(round, "train")] if round else [])],
        "log_ratio": [(round, "answer")],
        "compare": sorted({(0, "answer"), (round - 1, "answer"), (round, "answer")}),
        "drift": [(0, "answer"), (round, "answer")],
        "capability": [(round, "train"), (0, "capability")] if round else [],
        "evaluate": [(round, "answer"), *([(round, "train")] if round else [])],
        "calibrate": [(round, "train")] if round else [],
        # Whatever makes figures, whichever of these the config has.
        "gate": [*((round, stage) for stage in STAGES if stage != "gate"), (round - 1, "gate")],
    }[name]


def fingerprint(context: RunContext, round: int, name: str) -> str:
    """Hash of everything a stage's result depends on; what it takes must be done.

    Raises:
        StageFailed: it is not.
    """
    if name in ("generate", "answer"):
        return generate.fingerprint(context, round, _sampling(context, round, name))
    if name == "gate":
        return gate.fingerprint(context, round, [stage for stage in stages_of(round, context.config) if stage != name])
    return str(_MODULES[name].fingerprint(context, round))


def run_round_stage(context: RunContext, round: int, name: str) -> StageOutcome | None:
    """Run one stage unless it is done; returns None where there was nothing to do.

    Raises:
        GateStopped: a rule over the round's figures ends the run; where it rolls the round back, that is done.
    """
    with context.store.read():
        if _frozen(context, round):
            return None
    if name == "train":
        reviewed.settle(context, round)  # writes, so that no reading connection may be open
    with context.store.read():  # opened once for all that the fingerprint asks
        identity = fingerprint(context, round, name)

    def body() -> StageOutcome:
        if name in ("generate", "answer"):
            return generate.run(context, round, _sampling(context, round, name), identity)
        outcome: StageOutcome = _MODULES[name].run(context, round, identity)
        return outcome

    work = holding_device(context, body) if name in _HOLD_A_MODEL else body
    try:
        return run_stage(context, round, name, identity, work)
    except GateRollsBack as found:
        made = [place for place in begun_stages(context.store) if place[0] == round]
        raise gate.roll_back(context, round, made, found) from None


def _sampling(context: RunContext, round: int, name: str) -> generate.Sampling:
    return (generate.training_candidates if name == "generate" else generate.held_out_answers)(context, round)


def held(context: RunContext, round: int) -> str | None:
    """Why ``round`` may not go on now, for people (pause, approval, a gate that asks); None if it may."""
    asked = gate.asked(context, round - 1) if round else None
    return control.held(context.workspace, round, needs_approval=context.config.execution.approve, asked=asked)


def begin_round(context: RunContext, round: int) -> None:
    """Write the round's row, unless it is finished; M_0's weights are recorded before anything is made with them.

    Raises:
        WeightsNotKept: models are gone that the round's training will be compared with.
    """
    if _status(context, round) == "done":
        return
    if round == 0:
        initial = context.model(0)
        context.store.put_round(
            0, weights_hash=initial.weights_hash, tokenizer_hash=initial.tokenizer_hash, status="running"
        )
    else:
        references.check(context, round)
        context.store.put_round(round, parent_hash=context.weights(round - 1).weights_hash, status="running")
    reach("round_begun")


def end_round(context: RunContext, round: int) -> None:
    """Write that the round is done, and remove or reduce checkpoints that nothing needs any more (``keep``)."""
    if _status(context, round) != "done":
        context.store.put_round(round, status="done")
        reach("round_ended")
    apply_retention(context, round)


def rounds_left(context: RunContext) -> list[int]:
    """Rounds with work to do: what a start goes through."""
    rows = context.store.query("select round, frozen from rounds where status = 'done'").to_pylist()
    kept = {row["round"] for row in rows if row["frozen"]}
    finished = {row["round"] for row in rows}
    stages = context.store.query("select round, stage from stages where status = 'done'").to_pylist()
    done = {(row["round"], row["stage"]) for row in stages}
    return [
        round
        for round in range(context.config.rounds + 1)
        if round not in kept
        and (round not in finished or any((round, name) not in done for name in stages_of(round, context.config)))
    ]


def begun_stages(store: Store) -> list[Place]:
    """Every stage that the store knows, in the order of running, whatever today's config says."""
    rows = store.query("select distinct round, stage from stages").to_pylist()
    known = {(row["round"], row["stage"]) for row in rows}
    return in_order(known)


def _status(context: RunContext, round: int) -> str | None:
    found = context.store.query("select status from rounds where round = ?", (round,)).to_pylist()
    return found[0]["status"] if found else None


def _frozen(context: RunContext, round: int) -> bool:
    found = context.store.query("select frozen and status = 'done' as f from rounds where round = ?", (round,))
    return bool(found.num_rows and found["f"][0].as_py())
