"""The flow that a run is: rounds of stages, each stage a task.

Stages are tasks, not subflows: a subflow costs a second each. Prefect's cache is off: whether a
stage is done is the store's word alone.
"""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from selfalign.rounds import begin_round, end_round, rounds_left, run_round_stage, stages_of
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
    context.workspace.record_children("Prefect's embedded server")
    for round in rounds_left(context):
        begin_round(context, round)
        for name in stages_of(round, context.config):
            stage(context, round, name)
        end_round(context, round)
        publish_round_table(context)
