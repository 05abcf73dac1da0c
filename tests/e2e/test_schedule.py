"""Schedules, pauses and losses, on a real Prefect server and worker on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from selfalign.workspace import Workspace
from tests.e2e.conftest import Project
from tests.e2e.project import ask

ROOT = Path(__file__).parent.parent.parent
#: Few and quick stages: what is tested here is when they run.
QUICK: dict[str, Any] = {
    "prompts": {
        "per_round": 12,
        "sources": [{"id": "jsonl", "path": "train.jsonl"}],
        "held_out": [{"id": "jsonl", "path": "held.jsonl"}],
    },
    "generate": {
        "candidates": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 24,
        "engine": {"id": "transformers", "max_rows": 24},
    },
    "judge": {"id": "verifier"},
    "evaluate": {"log_ratio": False, "prompts": 2, "max_tokens": 8},
}  # fmt: skip


def kill_tree(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for member in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                member.kill()


def until(condition: Callable[[], Any], what: str, timeout_s: float = 120) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"not within {timeout_s:.0f} s: {what}")


def flow_runs(api: str, deployment: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(
        api, "flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
    )
    return [run for run in found if run["start_time"]]


def rounds_done(project: Project) -> int:
    if not (project.workspace / "store.duckdb").exists():
        return -1
    with suppress(Exception):  # the store may just be being made
        return int(project.sql("select coalesce(max(round), -1) n from rounds where status = 'done'")[0]["n"])
    return -1


def working_on(project: Project, job: str) -> bool:
    return any(project.workspace.glob(f".selfalign/jobs/{job}-*/progress.json"))


@contextmanager
def running(project: Project, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**project.environment(), "PREFECT_HOME": str(project.folder / "prefect"), "DO_NOT_TRACK": "1"}
    with (project.folder / "start.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=project.folder, env=environment, stdout=log, stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )  # fmt: skip
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()


def log_of(project: Project) -> str:
    return (project.folder / "start.log").read_text(errors="replace")


def prefect(project: Project, *arguments: str) -> None:
    environment = {**project.environment(), "PREFECT_HOME": str(project.folder / "prefect"), "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_api: str) -> Project:
    """A run that a worker's schedule made, with the worker and its firing killed on the way."""
    project = Project(tmp_path_factory.mktemp("scheduled") / "project", tiny_model, prefect_api)
    config = project.write(**QUICK, rounds=2, execution={"rounds_per_start": 1})
    prefect(project, "work-pool", "create", "selfalign", "--type", "process")
    prefect(
        project, "deploy", "--name", "nightly", "--interval", "10", "--param", f"config={config}",
        "--param", f"folder={project.folder}", "--param", "overrides=[]",
    )  # fmt: skip
    worker = ("prefect", "worker", "start", "--pool", "selfalign", "--limit", "1")
    with running(project, *worker) as process:
        until(lambda: working_on(project, "round-1-generate"), "the first firing", 180)
        kill_tree(process.pid)
    with running(project, *worker):
        until(lambda: rounds_done(project) == 2, "two rounds", 600)
        until(lambda: any(r["state"]["name"] == "AllDone" for r in flow_runs(prefect_api, "nightly")), "all done")
    return project


def test_a_schedule_makes_a_round_a_firing_and_survives_a_kill(two_rounds: Project) -> None:
    assert two_rounds.api
    runs = flow_runs(two_rounds.api, "nightly")
    states = [(run["state"]["name"], run["state"]["message"]) for run in runs]
    assert [message for name, message in states if name == "Completed"] == [f"Round {n} is done." for n in (1, 2)]
    assert "Crashed" in [name for name, _ in states], "the killed firing does not look alive"
    assert {name for name, _ in states} <= {"Completed", "Crashed", "Skipped", "AllDone", "Pending", "Running"}
    assert {run["name"] for run in runs if run["state"]["name"] == "Completed"} == {"tiny"}
    rounds = two_rounds.sql("select model from round_summary order by round")
    assert [row["model"] for row in rounds] == ["M0", "M1", "M2"]


def test_the_page_has_stages_tables_and_events(two_rounds: Project) -> None:
    assert two_rounds.api
    artifacts = ask(two_rounds.api, "artifacts/latest/filter")
    shown = {artifact["key"]: artifact for artifact in artifacts}
    assert [row["model"] for row in json.loads(shown["tiny-rounds"]["data"])] == ["M0", "M1", "M2"]
    assert "paired" in shown["tiny-yields"]["data"]
    report = two_rounds.workspace / "report.html"
    assert shown["tiny-report"]["data"] == f"[{report.resolve().as_uri()}]({report.resolve().as_uri()})"
    until(lambda: "rounds 0 to 2 are done" in report.read_text(encoding="utf-8"), "the report of the last round")
    names = {run["name"] for run in ask(two_rounds.api, "task_runs/filter")}
    assert {"round-0-answer", "round-2-train"} <= names
    since = {"occurred": {"since": "2020-01-01T00:00:00Z"}, "event": {"prefix": ["selfalign."]}}
    events = ask(two_rounds.api, "events/filter", {"filter": since})["events"]
    assert {"selfalign.run.started", "selfalign.round.finished", "selfalign.run.finished"} <= {
        event["event"] for event in events
    }
    last = max((e for e in events if e["event"] == "selfalign.round.finished"), key=lambda e: e["occurred"])
    assert last["resource"]["prefect.resource.id"] == "selfalign.run.tiny"
    assert last["payload"]["model"] == "M2"


@pytest.fixture
def more(two_rounds: Project, tmp_path: Path) -> Project:
    """A copy of the finished run, with a third round to make."""
    project = Project(tmp_path / "project", two_rounds.model, two_rounds.api)
    shutil.copytree(two_rounds.folder, project.folder, ignore=shutil.ignore_patterns("prefect", "start.log"))
    project.write(**QUICK, rounds=3)
    return project


def test_a_run_waits_for_approval_and_for_a_pause_to_end(more: Project) -> None:
    assert more.api
    more.write(**QUICK, rounds=3, execution={"approve": True, "report": False})
    with running(more, "selfalign", "run", "run.yaml") as process:
        until(lambda: "round 2 waits for approval" in log_of(more), "waiting")

        def paused() -> Any:
            return ask(more.api or "", "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}})

        (waiting,) = until(paused, "the page shows it")
        assert waiting["name"] == "tiny"
        assert more.selfalign("pause", "runs/tiny").returncode == 0
        ask(more.api, f"flow_runs/{waiting['id']}/resume")
        until(lambda: "going on" in log_of(more), "resumed by the API, which ends the pause as well")
        assert more.selfalign("pause", "runs/tiny").returncode == 0
        until(lambda: "\npaused; go on with" in log_of(more), "paused between two stages")
        assert process.poll() is None
        assert "approved up to round 2" in more.selfalign("approve", "runs/tiny").stdout
        assert process.wait(180) == 0
    assert rounds_done(more) == 3


def test_an_unapproved_run_may_end_instead_of_waiting(more: Project) -> None:
    more.write(**QUICK, rounds=3, execution={"approve": True, "when_paused": "exit", "report": False})
    done = more.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert "selfalign approve" in done.stderr
    assert rounds_done(more) == 2


def test_serve_fires_skips_what_overlaps_and_a_cancelled_firing_can_be_resumed(more: Project) -> None:
    assert more.api
    api = more.api
    with running(more, "selfalign", "serve", "run.yaml", "--interval", "8s", "--name", "often"):
        with Workspace(more.workspace).lock():
            skipped = until(lambda: [r for r in flow_runs(api, "often") if r["state"]["name"] == "Skipped"], "skip")
        assert [run for run in skipped if "already running" in run["state"]["message"]]
        until(lambda: working_on(more, "round-3-generate") or working_on(more, "round-3-train"), "a firing at work")
        # A later firing also runs for a moment, until it finds that this one is at work.
        busy, *_ = until(lambda: [r for r in flow_runs(api, "often") if r["state"]["name"] == "Running"], "it runs")
        ask(api, f"flow_runs/{busy['id']}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        until(
            lambda: [r for r in flow_runs(api, "often") if r["id"] == busy["id"] and r["state"]["type"] == "CANCELLED"],
            "cancelled",
        )
        until(lambda: rounds_done(more) == 3, "a later firing goes on")
        until(lambda: [r for r in flow_runs(api, "often") if r["state"]["message"] == "Round 3 is done."], "it says so")


def test_a_run_outlives_its_stage_process_and_its_server(more: Project) -> None:
    more.api = None
    more.write(**QUICK, rounds=3, execution={"retry_delay_seconds": 0.1, "report": False})
    with running(more, "selfalign", "run", "run.yaml") as process:
        until(lambda: working_on(more, "round-3-generate"), "generating")
        (server,) = [p for p in psutil.Process(process.pid).children() if "flows.server" in command_of(p)]
        until(lambda: lost_a_stage(more), "a second attempt")
        server.kill()
        assert process.wait(180) == 0, log_of(more)
    assert "EventsWorker" not in log_of(more), "its end waits for events that nobody takes any more"
    assert rounds_done(more) == 3
    # Which stage was hit depends on the machine: generating takes a moment only.
    assert more.sql("select max(attempt) > 1 again from stages where round = 3") == [{"again": True}]
    assert more.sql("select count(*) = 12 * 4 whole from candidates where round = 3 and split = 'train'") == [
        {"whole": True}
    ]
    assert more.sql("select count(*) n from stages where round = 3 and status <> 'done'") == [{"n": 0}]
    time.sleep(2)
    assert not [p for p in psutil.process_iter(["cmdline", "environ"]) if is_server_of(p, process.pid)]


def lost_a_stage(project: Project) -> bool:
    """Whether the run tries a stage again; kills the one at work until it does."""
    if "trying again" in log_of(project):
        return True
    for record in Workspace(project.workspace)._process_records():
        with suppress(psutil.Error):
            stage = psutil.Process(record["pid"])
            if record["what"].startswith("round 3") and stage.create_time() == record["started"]:
                stage.kill()
    return False


def command_of(process: psutil.Process) -> list[str]:
    """Empty for a process that has ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def is_server_of(process: psutil.Process, parent: int) -> bool:
    with suppress(psutil.Error):
        return "flows.server" in process.cmdline() and process.environ().get("SELFALIGN_SERVER_PARENT") == str(parent)
    return False


def test_a_killed_run_takes_its_server_with_it(tmp_path: Path, tiny_model: Path) -> None:
    code = (
        "import pathlib, time; from flows.server import Server;"
        "s = Server(pathlib.Path('server.log')); s.start(); print(s._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path)},
    ) as parent:  # fmt: skip
        assert parent.stdout
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        server.wait(10)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--cron", "0 2 * *"), "--cron"),
        (("--cron", "at two"), "--cron"),
        (("--interval", "soon"), "--interval"),
        ((), "one of --cron and --interval"),
        (("--interval", "9", "--set", "model=./nowhere"), "nowhere"),
    ],
)
def test_a_wrong_schedule_is_refused_before_anything_starts(
    tmp_path: Path, tiny_model: Path, arguments: tuple[str, ...], expected: str
) -> None:
    project = Project(tmp_path / "project", tiny_model, None)
    project.write()
    done = project.selfalign("serve", "run.yaml", *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert not project.workspace.exists()
