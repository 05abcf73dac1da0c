"""Firings that came due while they could not be made: skipped, not made up for one after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled


def skip_due(deployment: UUID, why: str) -> None:
    """Cancel, under the name "Skipped", what the deployment's schedule wanted until now.

    One firing goes on where the last one stopped, so a missed one has nothing that the next does not do.
    """
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=due):
            for run in found:
                client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=why), force=True)
