"""What Prefect's page shows of a run, and what is pressed there.

All of it is sent by a thread of its own, which forgets what it cannot send: the page may not slow a
run down, let alone end it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker, emit_events_to_cloud
from prefect.states import Crashed, Paused, Running

from selfalign.progress import Reporter
from selfalign.stages.jobs import Progress

#: Seconds between two updates of a stage's progress.
_PROGRESS_EVERY_S = 3.0
_CLOSE_TIMEOUT_S = 3.0
#: Before the fourth, and each that follows, Prefect waits for a second.
_EVENT_ATTEMPTS = 3
#: Prefect fails a run that was paused for longer; a person may be on holiday.
_PAUSE = timedelta(days=365)

Job = Callable[[SyncPrefectClient], None]


class Page:
    """The page of the present flow run. Methods return at once, except where they say otherwise."""

    def __init__(self, run: str) -> None:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise RuntimeError("a page belongs to a flow run")
        self.run = run
        self._flow_run_id: UUID = context.flow_run.id
        self._deployment_id: UUID | None = context.flow_run.deployment_id
        self._started = context.flow_run.start_time
        self._paused = threading.Event()
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=100)
        self._thread = threading.Thread(target=self._send, name="prefect-page", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        client: SyncPrefectClient | None = None
        while (job := self._jobs.get()) is not None:
            try:
                client = client or get_client(sync_client=True)
                job(client)
            except Exception:
                client = None  # a server that went may come back

    def _later(self, job: Job) -> None:
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(job)

    def close(self) -> None:
        """Wait a moment for what is still to be sent."""
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=_CLOSE_TIMEOUT_S)
        self._thread.join(_CLOSE_TIMEOUT_S)

    # -- artifacts and events -----------------------------------------------------------------------

    def put(self, kind: str, name: str, data: Any, description: str = "", task_run_id: UUID | None = None) -> None:
        """An artifact of kind "table", "markdown" or "progress", under the run's name and its own."""
        artifact = ArtifactCreate(
            key=_key(self.run, name), type=kind, description=description, data=data,
            flow_run_id=self._flow_run_id, task_run_id=task_run_id,
        )  # fmt: skip
        self._later(lambda client: client.create_artifact(artifact) and None)

    def progress(self, name: str) -> Callable[[float], None]:
        """A new progress bar; returns what sets it (0 to 100)."""
        context = TaskRunContext.get()
        artifact = ArtifactCreate(
            key=_key(self.run, name), type="progress", description=f"{self.run}: {name}", data=0.0,
            flow_run_id=self._flow_run_id, task_run_id=context.task_run.id if context else None,
        )  # fmt: skip
        made: list[UUID] = []
        self._later(lambda client: made.append(client.create_artifact(artifact).id))

        def show(percent: float) -> None:
            update = ArtifactUpdate(data=percent)
            self._later(lambda client: client.update_artifact(made[0], update) if made else None)

        return show

    def event(self, what: str, **figures: Any) -> None:
        """``selfalign.<what>``, for automations; the run is the resource, its figures the payload."""
        announce(self.run, what, figures)

    # -- pause and resume ---------------------------------------------------------------------------

    def pause(self) -> None:
        """Show the run as paused."""
        state = Paused(timeout_seconds=int(_PAUSE.total_seconds()), pause_key=str(uuid4()))
        self._paused.clear()

        def job(client: SyncPrefectClient) -> None:
            client.set_flow_run_state(self._flow_run_id, state)
            self._paused.set()

        self._later(job)

    def resumed(self) -> bool:
        """Whether Resume was pressed since :meth:`pause`. Waits for the server's answer; no answer is no."""
        if not self._paused.is_set():
            return False  # not shown as paused yet, so "running" says nothing
        with contextlib.suppress(Exception), get_client(sync_client=True, httpx_settings={"timeout": 5}) as client:
            state = client.read_flow_run(self._flow_run_id).state
            return bool(state and state.type == StateType.RUNNING)
        return False

    def resume(self) -> None:
        """Show the run as running again."""
        self._later(lambda client: client.set_flow_run_state(self._flow_run_id, Running(), force=True) and None)

    # -- the dead -----------------------------------------------------------------------------------

    def bury(self) -> None:
        """Mark earlier runs of this deployment that still look alive as crashed; the caller holds the workspace.

        Whoever holds the workspace's lock knows that nobody else works in it, so a run that began
        earlier and is "running" was killed.
        """
        if self._deployment_id is None or self._started is None:
            return
        alive = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[self._deployment_id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PAUSED])),
        )

        def job(client: SyncPrefectClient) -> None:
            for run in client.read_flow_runs(flow_run_filter=alive):
                if run.id != self._flow_run_id and run.start_time and run.start_time < self._started:
                    dead = Crashed(message="The process was killed; a later run went on from there.")
                    client.set_flow_run_state(run.id, dead, force=True)

        self._later(job)


class PageReporter:
    """A reporter that also draws the running stage's progress on the page."""

    def __init__(self, inner: Reporter, page: Page, label: str = "") -> None:
        """``label`` is of a stage that is under way already."""
        self._inner = inner
        self._page = page
        self._show: Callable[[float], None] | None = None
        self._label = label
        self._last = 0.0

    def start(self, label: str, total: int | None = None, unit: str = "") -> None:
        self._label, self._show, self._last = label, None, time.monotonic()
        self._inner.start(label, total, unit)

    def update(self, progress: Progress) -> None:
        self._inner.update(progress)
        if time.monotonic() - self._last > _PROGRESS_EVERY_S:
            self._last = time.monotonic()
            # Made only now: a stage of a second needs no bar.
            self._show = self._show or self._page.progress(self._label)
            self._show(round(100 * progress.done / max(progress.total, 1), 1))

    def finish(self, summary: str) -> None:
        self._inner.finish(summary)
        if self._show:
            self._show(100.0)

    def note(self, message: str) -> None:
        self._inner.note(message)


def hurry_events() -> None:
    """Have an event that finds no server given up at once; call before the first one.

    Prefect takes seven seconds over each, and its process does not end before the last: minutes, where a server was
    lost. None is lost by this where it comes back, as the next event takes the unconfirmed ones along.
    """
    if not emit_events_to_cloud():
        EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=_EVENT_ATTEMPTS - 1)


def announce(run: str, what: str, figures: Mapping[str, Any]) -> None:
    """Emit Prefect event ``selfalign.<what>`` about ``run``; never raises."""
    with contextlib.suppress(Exception):
        emit_event(
            f"selfalign.{what}",
            resource={"prefect.resource.id": f"selfalign.run.{run}", "prefect.resource.name": run},
            payload=dict(figures),
        )


def _key(*parts: str) -> str:
    """Prefect allows lower-case letters, digits and dashes."""
    text = "-".join(parts).lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
