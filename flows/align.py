"""The flow that a run is: rounds of stages, each stage a task.

Stages are tasks, not subflows: a subflow costs a second each. Prefect's cache is off: whether a
stage is done is the store's word alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import PrefectException
from prefect.states import State
from prefect.tasks import Task

from flows.head_start import HeadStart
from flows.page import Page, PageReporter, announce, hurry_events
from flows.reports import Reports
from flows.server import wait_until_healthy
from selfalign import control
from selfalign.errors import GateStopped
from selfalign.rounds import begin_round, end_round, held, rounds_left, run_round_stage, stages_of
from selfalign.stages.context import RunContext
from selfalign.stages.retry import delays, worth_retrying

_SHOWN = (
    "model", "pairs", "pass_rate_strict", "pass_rate_strict_low", "pass_rate_strict_high", "delta_vs_m0",
    "delta_vs_m0_low", "delta_vs_m0_high", "judge_accuracy", "judge_accuracy_low", "judge_accuracy_high",
    "win_rate_vs_previous", "win_rate_vs_m0", "judge_drift", "plain_text_nll", "mean_length", "gate", "gate_failed",
    "seconds",
)  # fmt: skip
#: A rolled back round has its decisions under its branch.
_DECISIONS = """
select
    round, coalesce(branch, '') as branch, rule, figure, value, low, high, threshold as bound, verdict,
    coalesce(done, '') as action, reason
from gate_decisions
order by round, branch, gate, figure
"""
_CONTROL_POLL_S = 0.5
_PAGE_POLL_S = 2.0
#: Is called with context, head start, round and name of a stage, and runs it.
RunStage = Callable[[RunContext, HeadStart | None, int, str], object]


def _stage(context: RunContext, head: HeadStart | None, round: int, name: str) -> None:
    if head:
        head.wait_for(round, name)
    run_round_stage(context, round, name)  # does nothing where the head start did it


@task(name="stage", task_run_name="round-{round}-{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(context: RunContext, head: HeadStart | None, round: int, name: str) -> None:
    _stage(context, head, round, name)


# Prefect calls hooks by these names of their arguments, from another process where a worker runs the flow.
def announce_failure(flow: Any, flow_run: Any, state: Any) -> None:
    announce(flow_run.name, "run.failed", {"state": state.name, "message": str(state.message)})


@flow(name="align", validate_parameters=False, persist_result=False, on_failure=[announce_failure])
def align(context: RunContext, last: int, head: HeadStart) -> str | None:
    """Make every round up to ``last`` that is not done; the caller holds the workspace's lock."""
    return rounds_on_page(context, last, head)


def rounds_on_page(context: RunContext, last: int, head: HeadStart | None = None) -> str | None:
    """The body of a flow: the rounds as tasks with retries, shown on its page; returns why it ended early, if so."""
    hurry_events()
    page, plain = Page(context.config.name), context.reporter
    retries = delays(context.config.execution)

    def may_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
        if again := worth_retrying(state.data):
            plain.note(f"{state.data}; trying again")
        return again

    retried = stage.with_options(retries=len(retries), retry_delay_seconds=retries, retry_condition_fn=may_retry)
    context.reporter = PageReporter(plain, page, head.label if head else "")
    page.bury()
    page.event("run.started", rounds=last, workspace=str(context.workspace.path))
    try:
        why = _rounds(context, last, head, retried, page)
        page.event("run.held" if why else "run.finished", reason=why, **_figures(context))
    finally:
        context.reporter = plain
        page.close()
    return why


def _rounds(
    context: RunContext, last: int, head: HeadStart | None, run_stage: RunStage, page: Page | None
) -> str | None:
    with Reports(context) as reports:
        for round in [left for left in rounds_left(context) if left <= last]:
            begin_round(context, round)
            for name in stages_of(round, context.config):
                if why := _hold(context, round, page):
                    return why
                try:
                    run_stage(context, head, round, name)
                except GateStopped:
                    if page:
                        _publish_decisions(context, page)
                    raise
            end_round(context, round)
            reports.update()
            if page:
                _publish(context, round, page)
                _publish_link(context, reports.path, page)
    return None


def _hold(context: RunContext, round: int, page: Page | None) -> str | None:
    """Wait while the run is paused or unapproved, until somebody says otherwise; or say why it should end."""
    execution, workspace = context.config.execution, context.workspace

    why = held(context, round)
    if why is None:
        return None
    if execution.when_paused == "exit":
        context.reporter.note(f"{why}; go on with: selfalign approve {workspace.path}, then start it again")
        return why
    context.reporter.note(f"{why}; go on with: selfalign approve {workspace.path} (or Resume on Prefect's page)")
    if page:
        page.pause()
        page.event("run.paused", reason=why, **_figures(context))
    asked = time.monotonic()
    while held(context, round):
        time.sleep(_CONTROL_POLL_S)
        if page and time.monotonic() - asked > _PAGE_POLL_S:
            asked = time.monotonic()
            if page.resumed():
                control.approve(workspace, round - 1)
    context.reporter.note("going on")
    if page:
        page.resume()
    return None


def _publish_decisions(context: RunContext, page: Page) -> None:
    found = context.store.query(_DECISIONS).to_pylist()
    if found:
        page.put("table", "gates", json.dumps(found), f"What the gates of {context.config.name} decided")


def _publish_link(context: RunContext, report: Path, page: Page) -> None:
    """As Prefect's own link artifacts are: a browser that will not open a file from a page shows where it is."""
    if context.config.execution.report:
        address = report.resolve().as_uri()
        page.put("markdown", "report", f"[{address}]({address})", f"Report of {context.config.name}")


def _publish(context: RunContext, round: int, page: Page) -> None:
    with context.store.read():  # opened once for all that is shown
        table = context.store.query(f"select {', '.join(_SHOWN)} from round_summary order by round").to_pylist()
        page.put("table", "rounds", json.dumps(table, default=str), f"Rounds of {context.config.name}")
        lost = context.store.query("select * from yields order by round, reason").to_pylist()
        lines = [f"| {row['round']} | {row['reason']} | {row['prompts']} |" for row in lost]
        page.put("markdown", "yields", "\n".join(["| round | outcome | prompts |", "|--:|:--|--:|", *lines]))
        _publish_decisions(context, page)
    page.event("round.finished", round=round, **_figures(context))


def _figures(context: RunContext) -> dict[str, Any]:
    found = context.store.query(f"select {', '.join(_SHOWN)} from round_summary order by round desc limit 1")
    rows = found.to_pylist()
    return dict(rows[0]) if rows else {}


def run_rounds(context: RunContext, last: int, head: HeadStart, patience_s: float) -> str | None:
    """The flow; or the rounds alone, where Prefect's server cannot be had or is lost on the way.

    A run is worth more than its page: what is done is in the store, and doing it again does nothing.
    ``patience_s`` is how long the server may take to answer. Returns why the run was held, if it ended for that.
    """
    if not wait_until_healthy(os.environ["PREFECT_API_URL"], patience_s):
        context.reporter.note("Prefect's server does not answer; the run goes on without it")
    else:
        try:
            why: str | None = align.with_options(flow_run_name=context.config.name)(context, last, head)
            return why
        except (httpx.HTTPError, PrefectException) as error:
            context.reporter.note(f"Prefect's server is lost ({type(error).__name__}); the run goes on without it")
    return _rounds(context, last, head, _stage, None)
