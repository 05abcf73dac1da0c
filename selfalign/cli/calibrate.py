"""Command ``calibrate``: judges against the gold set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfalign.cli.options import JsonOption, SetOption
from selfalign.config import RunConfig, load_config, validate_config
from selfalign.errors import BadInput
from selfalign.progress import ConsoleReporter
from selfalign.types import GoldSplit
from selfalign.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfalign.calibration.figures import JudgeFigures
    from selfalign.calibration.mapping import Fit
    from selfalign.evaluation.statistics import Interval
    from selfalign.measure import Answer

_BAR = " ▁▂▃▄▅▆▇█"


def calibrate(
    target: Annotated[Path, typer.Argument(help="A run's YAML config (M0 judges), or a run: folder or name.", show_default=False)],
    round_: Annotated[int | None, typer.Option("--round", min=0, help="Of a run: which M judges; the last finished one by default.")] = None,
    judge: Annotated[list[str] | None, typer.Option("--judge", help="Another judge than the config's, as YAML or a name (repeatable).")] = None,
    gold: Annotated[str | None, typer.Option(help="Gold items, one JSON object a line; calibrate.gold by default.")] = None,
    split: Annotated[str, typer.Option(help="Split to measure on: test, calibrate or teach.")] = "test",
    items: Annotated[int | None, typer.Option(min=1, help="Only a seeded sample of this many items.")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Also fit score to preference, and pair.min_margin, on split calibrate.")] = False,
    accuracy: Annotated[float, typer.Option("--accuracy", min=0.5, max=1, help="With --fit: accuracy that pairs should reach.")] = 0.8,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """How well a judge tells better from worse: accuracy, biases, calibration, cost.

    A composite judge's members are measured as well. Figures stay in the run's store, where there is one.

    Example: [cyan]selfalign calibrate runs/quickstart --judge verifier --judge '{id: rubric_logits}' --fit[/cyan]
    """
    from selfalign.measure import Question, measure_judges

    if split not in get_args(GoldSplit):
        raise BadInput(f"--split {split}: unknown; known: {', '.join(get_args(GoldSplit))}")
    config, of_run = _config(target, set_)
    judges = [_judge(config, text) for text in judge or ()] or [config.judge]
    if judges == [None]:
        raise BadInput(f"{target}: the run has no judge (judge: null); name one with --judge")
    question = Question(
        judges, gold or config.calibrate.gold, split, items, accuracy if fit else None  # type: ignore[arg-type]
    )  # fmt: skip
    reporter = ConsoleReporter()
    try:
        answers = measure_judges(config, question, reporter, round=round_, of_run=of_run)
    finally:
        reporter.close()
    if json_:
        print(json.dumps([answer.as_json() for answer in answers], ensure_ascii=False, allow_nan=False))
    else:
        _show(answers, Console(highlight=False))


def _config(target: Path, overrides: list[str] | None) -> tuple[RunConfig, bool]:
    if target.is_file() or target.suffix in (".yaml", ".yml"):
        return load_config(target, overrides), False
    return Workspace.existing(target).load_config(overrides), True


def _judge(config: RunConfig, text: str) -> Any:
    """The Config of a judge written as a name or as YAML, e.g. ``{id: rubric_votes, votes: 5}``."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise BadInput(f"--judge {text}: not valid YAML; write a name or {{id: NAME, key: value}}") from None
    return validate_config({**config.snapshot(), "judge": value}, f"--judge {text}").judge


# -- for people -------------------------------------------------------------------------------------------


def _show(answers: Sequence[Answer], console: Console) -> None:
    table = Table(header_style="bold")
    for name in ("judge", "accuracy", "n", "ties", "invalid", "parsed", "ECE", "a judgement"):
        table.add_column(name, justify="left" if name == "judge" else "right")
    for answer in answers:
        table.add_row(*_row(answer))
    console.print(table)
    for answer in answers:
        for line in _notes(answer):
            console.print(line, soft_wrap=True, markup=False)
    console.print(
        "accuracy: share of gold items judged right, a tie as half, an invalid verdict as wrong; 0.5 is chance. "
        "Intervals: 95 %.",
        style="dim",
    )


def _name(answer: Answer) -> str:
    name = f"{answer.figures.judge.name} {answer.figures.judge.judge_hash[:8]}"
    return f"  {name}" if answer.member_of else name


def _row(answer: Answer) -> tuple[str, ...]:
    figures = answer.figures
    ece, seconds = figures.calibration.ece, answer.seconds_a_judgement
    return (
        escape(_name(answer)), _interval(figures.accuracy), str(figures.n), str(figures.results["tie"]),
        str(figures.results["invalid"]), _share(figures.parse_rate), "-" if ece is None else f"{ece:.3f}",
        "-" if seconds is None else f"{1000 * seconds:.0f} ms",
    )  # fmt: skip


def _notes(answer: Answer) -> list[str]:
    figures = answer.figures
    kinds = ", ".join(f"{name} {_interval(f, '.2f')} of {f.n}" for name, f in figures.by_kind.items())
    languages = ", ".join(f"{name} {_interval(f, '.2f')} of {f.n}" for name, f in figures.by_language.items())
    lines = [
        f"{_name(answer).strip()}, by M{answer.round}:",
        f"  by kind: {kinds or '-'}",
        f"  by language: {languages or '-'}",
    ]
    length = figures.length
    lines.append(
        f"  better one shorter {_interval(length.shorter, '.2f')}, longer {_interval(length.longer, '.2f')}, of equal "
        f"length {_interval(length.matched, '.2f')}; pull to length {_interval(length.difference, '+.2f')}"
    )
    if figures.position:
        lines.append(
            f"  pull to the answer shown first {_interval(figures.position.to_first, '+.2f')}, turns round with the order "
            f"{_interval(figures.position.flips, '.2f')}"
        )
    if figures.skipped:
        lines.append(f"  does not apply to {figures.skipped} items")
    if figures.consistency:
        lines.append(f"  votes that agree: {_interval(figures.consistency, '.2f')}")
    if figures.tokens and figures.tokens.value is not None:
        lines.append(f"  writes {figures.tokens.value:.0f} tokens a judgement")
    low, high = figures.histogram.edges[0], figures.histogram.edges[-1]
    lines.append(f"  scores {low:g} to {high:g}: better {_bars(figures, 'better')}, worse {_bars(figures, 'worse')}")
    if answer.fit:
        lines.append(
            f"  P(a better than b) = sigmoid({answer.fit.k:.4g} (score a - score b)), fitted on {answer.fit.n} items"
        )
        lines.append(f"  {_margin(answer.fit)}")
    return lines


def _margin(fit: Fit) -> str:
    from selfalign.calibration.mapping import MIN_PAIRS

    if fit.n < MIN_PAIRS:
        return f"too few items for a pair.min_margin: {fit.n}, at least {MIN_PAIRS} are needed"
    if fit.margin is None:
        return f"no margin makes {fit.target:.0%} of at least {MIN_PAIRS} pairs right: do not train on this judge"
    right = _interval(fit.margin.accuracy, ".2f")
    return f"pair.min_margin: {fit.margin.min_margin:.4g} gives {right} right, of {fit.margin.share:.0%} of the pairs"


def _bars(figures: JudgeFigures, side: str) -> str:
    counts = getattr(figures.histogram, side)
    top = max(*counts, 1)
    return "|" + "".join(_BAR[-(-count * (len(_BAR) - 1) // top)] for count in counts) + "|"


def _interval(figure: Interval | None, form: str = ".3f") -> str:
    if figure is None or figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:{form}}"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _share(figure: Interval) -> str:
    return "-" if figure.value is None else f"{figure.value:.0%}"
