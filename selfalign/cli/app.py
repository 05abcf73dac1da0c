"""The command line: which commands there are. Each parses its arguments, calls the library, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from selfalign import __version__
from selfalign.cli import inspect, schedule, setup, start

app = typer.Typer(
    name="selfalign",
    help="Self-improving preference-data generation: rounds of generate, judge, pair, train, measure; every row in SQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models = typer.Typer(help="The models a run can start from.", no_args_is_help=True)


def _version(value: bool) -> None:
    if value:
        print(f"selfalign {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Self-improving preference-data generation."""


app.command()(start.run)
app.command()(schedule.serve)
app.command()(schedule.pause)
app.command()(schedule.approve)
app.command()(inspect.status)
app.command()(inspect.sql)
app.command()(setup.plan)
app.command()(setup.init)
app.command()(setup.methods)
app.add_typer(models, name="models")
models.command("fetch")(setup.models_fetch)
