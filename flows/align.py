"""The flow that a run is: rounds of stages, each stage a task.

Stages are tasks, not subflows: a subflow costs a second each. Prefect's cache is off: whether a
stage is done is the store's word alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import httpx
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException

from flows.server import wait_until_healthy
from selfalign.rounds import begin_round, end_round, run_round_stage, stages_of
from selfalign.stages.context import RunContext

_SHOWN = (
    "model", "pairs", "pass_rate_strict", "pass_rate_strict_low", "pass_rate_strict_high", "delta_vs_m0",
    "delta_vs_m0_low", "delta_vs_m0_high", "mean_length", "seconds",
)  # fmt: skip


@task(name="stage", task_run_name="round-{round}-{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(context: RunContext, round: int, name: str) -> None:
    run_round_stage(context, round, name)


@task(name="publish-round-table", cache_policy=NO_CACHE, persist_result=False)
def publish_round_table(context: RunContext) -> None:
    table = context.store.query(f"select {', '.join(_SHOWN)} from round_summary order by round").to_pylist()
    key = "".join(c if c.isalnum() else "-" for c in context.config.name.lower())
    create_table_artifact(table=table, key=f"{key}-rounds", description=f"Rounds of {context.config.name}")


@flow(name="align", validate_parameters=False, persist_result=False)
def align(context: RunContext) -> None:
    """Run every round that is not done; the caller holds the workspace's lock."""
    _rounds(context, stage, publish_round_table)


def _rounds(context: RunContext, stage: Callable[..., object], publish: Callable[[RunContext], object]) -> None:
    for round in range(context.config.rounds + 1):
        begin_round(context, round)
        for name in stages_of(round, context.config):
            stage(context, round, name)
        end_round(context, round)
        publish(context)


def run_rounds(context: RunContext) -> None:
    """The flow; or the rounds alone, where Prefect's server cannot be had or is lost on the way.

    A run is worth more than its page: what is done is in the store, and doing it again does nothing.
    """
    if not wait_until_healthy(os.environ["PREFECT_API_URL"]):
        context.reporter.note("Prefect's server does not answer; the run goes on without it")
    else:
        try:
            align(context)
            return
        except (httpx.HTTPError, PrefectException) as error:
            context.reporter.note(f"Prefect's server is lost ({type(error).__name__}); the run goes on without it")
    _rounds(context, run_round_stage, lambda _: None)
