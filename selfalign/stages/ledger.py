"""Truth for resuming: a stage is done when the store says so for the same fingerprint of its inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from selfalign.errors import ConfigError, EmptyStage, SelfAlignError, StageFailed
from selfalign.failpoints import reach
from selfalign.stages.context import RunContext
from selfalign.stages.reuse import anything_kept, take_over


@dataclass(frozen=True)
class StageOutcome:
    """What a stage read and wrote; ``detail`` goes into the ledger, ``summary`` is for people."""

    rows_in: int
    rows_out: int
    summary: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def run_stage(
    context: RunContext, round: int, name: str, fingerprint: str, body: Callable[[], StageOutcome]
) -> StageOutcome | None:
    """Run ``body`` unless the ledger has it done; returns None where there was nothing to do.

    Raises:
        ConfigError: the stage was begun with other settings or inputs than today's.
        SelfAlignError: what ``body`` raised, after it is written to the ledger.
    """
    label = f"round {round} {name}"
    context.workspace.check_held()
    with context.store.read():
        record = context.store.stage(round, name)
        kept = record is None and anything_kept(context)
    if kept and (taken := take_over(context, round, name, fingerprint)):
        context.reporter.note(f"{label}: {taken}")
        return None
    if record is not None and record.fingerprint != fingerprint:
        raise ConfigError(
            f"{label} was begun with other settings or inputs than today's (a prompt file, rubric, model or config "
            f"changed while the run was going on); run again to choose what becomes of it"
        )
    if record is not None and record.status == "done":
        return None
    context.store.start_stage(round, name, fingerprint)
    reach("stage_started")
    context.reporter.start(label)
    try:
        outcome = body()
    except BaseException as error:
        status: Literal["empty", "failed"] = "empty" if isinstance(error, EmptyStage) else "failed"
        # The ledger's failure (a full disk, most likely) must not hide why the stage stopped.
        with contextlib.suppress(SelfAlignError):
            context.store.fail_stage(round, name, fingerprint, status=status, detail={"error": str(error)})
        raise
    context.store.finish_stage(
        round, name, fingerprint, rows_in=outcome.rows_in, rows_out=outcome.rows_out, detail=dict(outcome.detail)
    )
    reach("stage_finished")
    context.reporter.finish(outcome.summary)
    return outcome


def upstream(context: RunContext, round: int, name: str) -> str:
    """Fingerprint of a stage that must be done before.

    Raises:
        StageFailed: it is not.
    """
    record = context.store.stage(round, name)
    if record is None or record.status != "done":
        raise StageFailed(f"round {round}: '{name}' is not done yet; run the stages in order")
    return record.fingerprint
