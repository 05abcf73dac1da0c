"""``selfalign status RUN --watch``: one view that renews itself on a terminal, a line a change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfalign.cli.show import round_table
from selfalign.visible import visible
from selfalign.watch import Doing, Look, Watcher
from selfalign.workspace import Workspace

_BAR_WIDTH = 30


def watch(workspace: Workspace, console: Console, every: float) -> int:
    """Show the run until nobody is at work on it any more, or until Ctrl-C; returns the exit code.

    Raises:
        StoreError: there is nothing to look at.
    """
    looks = _looks(Watcher(workspace), every)
    try:
        return _live(looks, console) if sys.stdout.isatty() and not console.is_dumb_terminal else _plain(looks)
    except KeyboardInterrupt:  # the run is another process, and hears nothing of it
        return 0


def _looks(watcher: Watcher, every: float) -> Iterator[Look]:
    """One look after another; the last one has an exit code."""
    while True:
        look = watcher.look()
        yield look
        if look.exit_code is not None:
            return
        time.sleep(every)


def _live(looks: Iterator[Look], console: Console) -> int:
    code = 0
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            live.update(view(look), refresh=True)
            code = look.exit_code or 0
    return code


def _plain(looks: Iterator[Look]) -> int:
    code, shown = 0, None
    for look in looks:
        if (key := _changes(look)) != shown:
            print(line(look), flush=True)
            shown = key
        code = look.exit_code or 0
    return code


def _changes(look: Look) -> tuple[Any, ...]:
    """What is worth another line."""
    doing = look.doing
    return (look.state, look.why, look.exit_code, *((doing.round, doing.stage, doing.percent) if doing else ()))


def line(look: Look) -> str:
    """A run in one line, without anything that a terminal would obey."""
    return _one_line(f"{heading(look)}{f'; {stage(look.doing)}' if look.doing else ''}")


def view(look: Look) -> RenderableType:
    """A run on a terminal."""
    parts: list[RenderableType] = [Text(_one_line(heading(look)), style="bold")]
    if look.summary:
        parts.append(round_table(look.summary))
    if look.doing:
        parts.append(_bar(look.doing))
    parts += [Text(_one_line(text)) for text in (look.yields, *_recent(look)) if text]
    if look.stale:
        parts.append(Text(f"figures are from before: {_one_line(look.stale)}", style="dim"))
    if look.exit_code is None:
        parts.append(Text("Ctrl-C leaves the view; the run goes on", style="dim"))
    return Group(*parts)


def heading(look: Look) -> str:
    """Name, state, and what there is to know of it."""
    facts = [f"pid {look.pid}"] if look.pid else []
    facts += [f"rounds 0 to {look.last}"] if look.last is not None else []
    said = f"{look.run}: {look.state}" + (f" ({', '.join(facts)})" if facts else "")
    return f"{said}{f': {look.why}' if look.why else ''}" + (
        "" if look.exit_code is None else f"; exit status {look.exit_code}"
    )


def stage(doing: Doing) -> str:
    """The stage under way: rows, speed, time so far and time left, as far as known."""
    name = f"round {doing.round} {doing.stage}"
    progress, elapsed = doing.progress, f"{duration(doing.elapsed)} so far"
    if progress is None:
        return f"{name}: {elapsed}"
    share = "" if doing.percent is None else f" {doing.percent} %"
    parts = [*progress.told, elapsed]
    if doing.left is not None:
        parts.append(f"about {duration(doing.left)} left")
    return f"{name}:{share} ({', '.join(parts)})"


def duration(seconds: float) -> str:
    """As people say it: 41 s, else hours, minutes and seconds."""
    return f"{seconds:.0f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _bar(doing: Doing) -> RenderableType:
    text = Text(_one_line(stage(doing)))
    if doing.progress is None:
        return text
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(doing.progress.total or None, doing.progress.done, width=_BAR_WIDTH), text)
    return grid


def _recent(look: Look) -> list[str]:
    return [f"{datetime.fromtimestamp(one.at):%H:%M:%S}  {one.text}" for one in look.events]


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))
