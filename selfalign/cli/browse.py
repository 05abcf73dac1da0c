"""Command ``browse``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from selfalign.cli.options import RunArgument
from selfalign.workspace import Workspace


def browse(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes one that is free.")] = 8777,
    host: Annotated[str, typer.Option(help="Address to listen on. Anything but loopback needs the token.")] = "127.0.0.1",
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on loopback, too.")] = False,
    origin: Annotated[str | None, typer.Option(help="How browsers see it through a TLS proxy, e.g. https://pairs.example.org.")] = None,
    reviewer: Annotated[str | None, typer.Option("--as", help="Name that reviews are signed with; yours by default.")] = None,
) -> None:  # fmt: skip
    """A local web page over a run: read pairs and judgements, search, query, accept, flip or reject pairs.

    Reads the store only, also while the run is at work. Reviews go to reviews.jsonl in the run's folder; the run honours
    them where it trains.

    Example: [cyan]selfalign browse runs/quickstart[/cyan]
    """
    from selfalign.browse.server import serve, warning

    workspace = Workspace.existing(run)
    if said := warning(host):
        print(f"note: {said}", file=sys.stderr)
    serve(
        workspace, host, port, token=token, reviewer=reviewer, origin=origin,
        ready=lambda address: print(f"{workspace.path}: {address} (stop with Ctrl-C)", flush=True),
    )  # fmt: skip
