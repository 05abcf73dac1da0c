"""The command line: which commands there are. Each parses its arguments, calls the library, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from selfalign import __version__
from selfalign.cli import (
    browse,
    calibrate,
    compare,
    disk,
    export,
    history,
    inspect,
    report,
    reward,
    scan,
    schedule,
    setup,
    sql,
    start,
    verify,
)

app = typer.Typer(
    name="selfalign",
    help="Self-improving preference-data generation: rounds of generate, judge, pair, train, measure; every row in SQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
checkpoints = typer.Typer(help="The weights that a run has made.", no_args_is_help=True)
models = typer.Typer(help="The models a run can start from.", no_args_is_help=True)


def _version(value: bool) -> None:
    if value:
        print(f"selfalign {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Self-improving preference-data generation."""


app.command()(start.run)
app.command()(start.resume)
app.command()(start.fork)
app.command()(history.branches)
app.command()(history.rollback)
app.command()(schedule.serve)
app.command()(schedule.pause)
app.command()(schedule.approve)
app.command()(inspect.status)
app.command()(sql.sql)
app.command()(report.report)
app.command()(browse.browse)
app.command()(verify.verify)
app.command()(scan.scan)
app.command()(calibrate.calibrate)
app.command()(compare.compare)
app.command()(reward.reward)
app.command()(export.export)
app.command()(setup.plan)
app.command()(setup.init)
app.command()(setup.methods)
app.add_typer(models, name="models")
models.command("fetch")(setup.models_fetch)
app.command()(disk.gc)
app.add_typer(checkpoints, name="checkpoints")
checkpoints.command("list")(disk.checkpoints_list)
checkpoints.command("restore")(disk.checkpoints_restore)
