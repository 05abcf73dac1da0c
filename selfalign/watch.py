"""What a run is doing now, looked at from another process that never gets in its way.

The workspace's lock tells whether anybody is at work, the store what was committed, ``progress.json`` of a job how far
the stage under way is. The store is opened only where its file changed, for one moment, and the less often the longer
that takes; everything else is a small file that the run replaces whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from selfalign import control
from selfalign.errors import StoreError
from selfalign.stages.jobs import JobFolder, Progress
from selfalign.store.store import Store
from selfalign.workspace import Workspace

Row = Mapping[str, Any]

#: Longest wait for a writer; what was read before is shown meanwhile.
_READ_TIMEOUT_S = 5.0
#: Of the time at most one part in so many is spent in the store.
_IDLE_SHARE = 10
_EVENTS = 5
#: One row a kind, so that the reasons of a hundred prompts without a pair are one line.
_HAPPENED = f"""
select max(created_at) as last_at, round, stage, kind, arg_max(message, created_at) as message, count(*) as n
from events
group by round, stage, kind
order by last_at desc, round desc, stage, kind
limit {_EVENTS}
"""
_STAGES = (
    "select round, stage, status, attempt, started_at, finished_at, seconds, rows_in, rows_out, detail from stages "
    "order by started_at"
)
_VOTES = "select round, sum(votes)::bigint as votes, sum(parse_error)::bigint as unparseable from judge_health group by round"


class State(StrEnum):
    starting = "starting"
    running = "running"
    paused = "paused"
    waiting = "waiting for approval"
    finished = "finished"
    failed = "failed"
    stopped = "no process"


@dataclass(frozen=True)
class Doing:
    """The stage under way. ``left``: seconds, where they can be told."""

    round: int
    stage: str
    elapsed: float
    progress: Progress | None = None
    left: float | None = None

    @property
    def percent(self) -> int | None:
        """Whole percents that are done."""
        if self.progress is None or self.progress.total <= 0:
            return None
        return 100 * self.progress.done // self.progress.total


@dataclass(frozen=True)
class Happened:
    """``at``: seconds since 1970."""

    at: float
    text: str


@dataclass(frozen=True)
class Committed:
    """What the store had in one moment: rows of ``runs`` (the one), ``round_summary``, ``rounds``, ``stages``, and more."""

    run: Row = field(default_factory=dict)
    summary: Sequence[Row] = ()
    rounds: Sequence[Row] = ()
    stages: Sequence[Row] = ()
    votes: Sequence[Row] = ()
    events: Sequence[Row] = ()

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run.get("config") or "{}")
        return found

    @property
    def following(self) -> int:
        """The first round that is not done."""
        return sum(row["status"] == "done" for row in self.rounds)


@dataclass(frozen=True)
class Look:
    """A run at one moment."""

    run: str
    state: State
    #: More on the state, for people; may be empty.
    why: str = ""
    pid: int | None = None
    #: The last round there is to be.
    last: int | None = None
    summary: Sequence[Row] = ()
    doing: Doing | None = None
    #: How many prompts gave examples so far, and what of the votes could not be read.
    yields: str = ""
    events: Sequence[Happened] = ()
    #: Why the figures are older than this moment, if they are.
    stale: str = ""
    #: What the run ended with, as far as its store tells; None while somebody is at work on it.
    exit_code: int | None = None


class Watcher:
    """Looks at a run again and again; writes nothing."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = Store(workspace.store_path, read_timeout=_READ_TIMEOUT_S)
        self._committed: Committed | None = None
        self._state: Any = None
        self._not_before = 0.0
        self._stale = ""

    def look(self) -> Look:
        """The run as it is now.

        Raises:
            StoreError: there is no store, or none that can be read, and nobody is at work who would change that.
        """
        pid = self._workspace.holder()  # first: what a process wrote before it ended is then read below
        self._read(at_work=pid is not None)
        committed = self._committed or Committed()
        now = time.time()
        doing = self._doing(committed.stages, now) if pid else None
        state, why = state_of(committed, pid, doing is not None, self._held(committed))
        return Look(
            run=committed.run.get("run") or self._workspace.path.name,
            state=state,
            why=why,
            pid=pid,
            last=committed.config.get("rounds"),
            summary=committed.summary,
            doing=doing,
            yields=yields_of(committed.summary, committed.votes),
            events=happened(committed.events, committed.stages),
            stale=self._stale,
            exit_code=None if pid else exit_code(state, committed),
        )

    def _read(self, *, at_work: bool) -> None:
        """Read the store where there may be something new in it."""
        path = self._store.path
        state = [_file_state(file) for file in (path, path.with_name(path.name + ".wal"))]
        if at_work and (state == self._state or time.monotonic() < self._not_before):
            return
        began = time.monotonic()
        try:
            self._committed, self._state, self._stale = read(self._store), state, ""
        except StoreError as error:
            if not at_work:
                raise
            # Not made yet, not migrated yet, or being written to: it will be.
            self._stale = str(error) if state[0] else ""
        now = time.monotonic()
        self._not_before = now + _IDLE_SHARE * (now - began)

    def _held(self, committed: Committed) -> str | None:
        """Why the next round may not begin, by what people asked for so far; None where it may, or all are done."""
        following = committed.following
        if following > committed.config.get("rounds", following):
            return None
        gates = [row for row in committed.stages if row["round"] == following - 1 and row["stage"] == "gate"]
        asked = json.loads(gates[-1]["detail"] or "{}").get("asks") if gates else None
        needs_approval = bool(committed.config.get("execution", {}).get("approve"))
        return control.held(self._workspace, following, needs_approval=needs_approval, asked=asked)

    def _doing(self, stages: Sequence[Row], now: float) -> Doing | None:
        """The stage that was begun last, if it has not ended."""
        if not stages or stages[-1]["status"] != "running":
            return None
        stage = stages[-1]
        began = seconds(stage["started_at"])
        progress = self._progress(stage["round"], stage["stage"], began)
        left = progress.seconds_left(began, now) if progress else None
        return Doing(stage["round"], stage["stage"], max(now - began, 0.0), progress, left)

    def _progress(self, round: int, stage: str, began: float) -> Progress | None:
        """What the stage's process said last; nothing that an earlier attempt left behind."""
        found: list[tuple[float, JobFolder]] = []
        for folder in self._workspace.job_folders(round, stage):
            try:
                found.append(((folder / "progress.json").stat().st_mtime, JobFolder(folder)))
            except OSError:  # nothing said yet, or done in this moment
                continue
        at, job = max(found, key=lambda pair: pair[0], default=(0.0, None))
        return job.progress() if job is not None and at >= began else None


def _file_state(path: Path) -> tuple[int, ...] | None:
    """What differs once a file was written to; None where there is none, as DuckDB's log comes and goes."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read(store: Store) -> Committed:
    """All that is looked at, in one short connection."""
    with store.read(oldest=1):
        return Committed(
            run=store.get_run() or {},
            summary=store.query("select * from round_summary order by round").to_pylist(),
            rounds=store.query("select round, status from rounds order by round").to_pylist(),
            stages=store.query(_STAGES).to_pylist(),
            votes=store.query(_VOTES).to_pylist(),
            events=store.query(_HAPPENED).to_pylist(),
        )


def state_of(committed: Committed, pid: int | None, working: bool, held: str | None) -> tuple[State, str]:
    """Where a run stands, and what more there is to say of it.

    ``pid`` is who is at work on it, ``working`` whether at a stage, ``held`` why its next round may not begin.
    """
    waits = State.paused if held == "paused" else State.waiting
    if pid is not None:
        if not committed.stages and not committed.rounds:
            return State.starting, ""
        if working:
            return State.running, "halts after this stage" if held else ""
        return (waits, "" if held == "paused" else held) if held else (State.running, "")
    last = committed.stages[-1] if committed.stages else None
    name = f"round {last['round']} {last['stage']}" if last else ""
    error = _error(last) if last else ""
    if last and last["status"] in ("failed", "empty") and error:
        return State.failed, f"{name}: {error}"
    if last and last["status"] != "done":
        return State.stopped, f"{name} was interrupted; the same command goes on"
    rounds, following = committed.config.get("rounds"), committed.following
    if rounds is not None and following > rounds:
        return State.finished, ""
    for event in committed.events:
        if event["kind"] == "rolled_back" and event["round"] == following:
            return State.failed, str(event["message"])
    if held:
        return waits, "" if held == "paused" else held
    return State.stopped, f"round {following} is next" + ("" if rounds is None else f", of {rounds}")


def exit_code(state: State, committed: Committed) -> int:
    """What the last start ended with, as far as its store tells: 0 done, 2 nothing usable came out, 1 anything else."""
    if state is State.failed:
        return 2 if committed.stages[-1]["status"] == "empty" else 1
    if state is State.stopped:  # a start that makes one round of several ends well
        return int(any(row["status"] != "done" for row in (*committed.rounds, *committed.stages[-1:])))
    return 0


def _error(stage: Row) -> str:
    """What the stage stopped with; empty where it was an interrupt or a signal, whose text is a number at most."""
    said = str(json.loads(stage["detail"] or "{}").get("error", ""))
    return "" if said.isdecimal() else said


def yields_of(summary: Sequence[Row], votes: Sequence[Row]) -> str:
    """Of the last round that has prompts: examples, examples a prompt, and the share of votes that could not be read."""
    rounds = [row for row in summary if row["round"] > 0 and row["prompts"]]
    if not rounds:
        return ""
    row = rounds[-1]
    made = [
        f"{row[kind]} {kind} ({row[kind] / row['prompts']:.2f} a prompt)"
        for kind in ("pairs", "labels", "rankings")
        if row.get(kind)
    ]
    parts = [f"{row['prompts']} prompts", f"{row['candidates']} candidates", *made]
    counted = next((one for one in votes if one["round"] == row["round"]), None)
    if counted and counted["votes"]:
        parts.append(f"{counted['unparseable'] / counted['votes']:.1%} of {counted['votes']} votes unparseable")
    return f"round {row['round']} so far: {', '.join(parts)}"


def happened(events: Sequence[Row], stages: Sequence[Row]) -> list[Happened]:
    """The last things, the oldest first: rows of ``events``, one a kind, and stages that ended."""
    found = [Happened(seconds(row["last_at"]), _event(row)) for row in events]
    found += [Happened(seconds(row["finished_at"]), _ended(row)) for row in stages if row["finished_at"]]
    return sorted(found, key=lambda one: one.at)[-_EVENTS:]


def _event(row: Row) -> str:
    place = "" if row["round"] is None else f"round {row['round']} "
    return f"{place}{row['kind']}: {row['message']}" + (f" (the last of {row['n']})" if row["n"] > 1 else "")


def _ended(row: Row) -> str:
    said = {"done": f"{row['rows_out']} rows"}.get(row["status"]) or _error(row) or "interrupted"
    return f"round {row['round']} {row['stage']} {row['status']}: {said}" + (
        f", {row['seconds']:.0f} s" if row["seconds"] is not None else ""
    )


def seconds(moment: datetime) -> float:
    """Seconds since 1970 of a time in the store, which is UTC."""
    return moment.replace(tzinfo=UTC).timestamp()
