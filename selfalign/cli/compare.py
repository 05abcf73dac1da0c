"""``compare``: which of two models answers better?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from selfalign.cli.options import JsonOption, SetOption

_Side = typer.Argument(help="A round of a run, as RUN:ROUND.", show_default=False)


def compare(
    first: Annotated[str, _Side],
    second: Annotated[str, _Side],
    judge: Annotated[str | None, typer.Option(help="Judge by name; by default evaluate.win_rate.judge.")] = None,
    by: Annotated[int, typer.Option(min=0, help="Round of the first run whose weights judge.")] = 0,
    prompts: Annotated[int | None, typer.Option(min=1, help="Compare on so many held-out prompts.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the judgements here, as JSON lines.")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Win rate of the first model over the second on held-out prompts, raw and at equal length, with intervals.

    The answers are those in the stores; a judge reads them in a process of its own. Writes to neither run.

    Example: [cyan]selfalign compare runs/quickstart:2 runs/quickstart:0[/cyan]
    """
    from selfalign.compare import compare as compare_sides
    from selfalign.compare import parse_side
    from selfalign.config import WinRateSettings
    from selfalign.progress import ConsoleReporter

    one, other = parse_side(first), parse_side(second)
    overrides = [*(set_ or []), *([f"evaluate.win_rate.judge={{id: {judge}}}"] if judge else [])]
    config = one.workspace.load_config(overrides)
    settings = config.evaluate.win_rate or WinRateSettings()
    if prompts:
        settings = settings.model_copy(update={"prompts": prompts})
    reporter = ConsoleReporter()
    try:
        found = compare_sides(one, other, config, settings, reporter, by)
    finally:
        reporter.close()
    if output:
        _write(output, [asdict(row) for row in found.judgements])
    if json_:
        print(json.dumps({name: value for name, value in asdict(found).items() if name != "judgements"}))
    else:
        _print(found, Console(highlight=False))


def _print(found: Any, console: Console) -> None:
    table = Table(header_style="bold", title=f"{found.first} against {found.second}", title_justify="left")
    for name in ("figure", "value", "95 % interval", "n"):
        table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
    for name, figure, form in (
        ("win rate", found.win_rate, "{:.3f}"),
        ("win rate at equal length", found.lc_win_rate, "{:.3f}"),
        ("strict pass rate, difference", asdict(found.pass_rate.difference), "{:+.3f}"),
    ):
        low, high = figure["low"], figure["high"]
        interval = "-" if low is None else f"{form.format(low)} to {form.format(high)}"
        table.add_row(
            name, "-" if figure["value"] is None else form.format(figure["value"]), interval, str(figure["n"])
        )
    console.print(table)
    detail, passes = found.win_rate["detail"], found.pass_rate
    left_out = ", ".join(f"{count} {outcome}" for outcome, count in detail["left_out"].items()) or "none"
    p_value = "" if passes.p_value is None else f", p = {passes.p_value:.3g} ({passes.test})"
    for line in (
        f"judge: {found.judge}, weights of {found.judged_by}; {detail['wins']} won, {detail['ties']} tied "
        f"({detail['identical']} identical), {detail['losses']} lost, left out: {left_out}",
        f"pass rate: {passes.better} prompts better, {passes.worse} worse{p_value}",
    ):
        console.print(line, markup=False, soft_wrap=True)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from selfalign.durable import replacing
    from selfalign.errors import BadInput

    try:
        with replacing(path) as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}; name another file") from None
