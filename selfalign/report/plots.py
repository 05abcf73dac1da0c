"""The plots and tables of a report: what each says, the rows that it draws, and why it is not there where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selfalign.report import charts
from selfalign.report.curves import BY_JUDGE, CURVES, JUDGE_CURVES, Curve
from selfalign.report.figures import JudgeFigure, Measured, RunFigures

#: Of bars and histograms the last so many rounds are drawn; curves have all.
RECENT = 4
#: Curves of so many branches are drawn, the latest.
_BRANCHES = 5

Row = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """``spec`` is Vega-Lite for ``rows``; without it nothing can be drawn, and ``absent`` says why."""

    name: str
    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Row] = ()
    spec: Mapping[str, Any] | None = None
    absent: str = ""


@dataclass(frozen=True)
class Table:
    """Rows to read. ``columns`` maps the key in a row to the heading."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Row] = ()
    absent: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page, with a link of its own."""

    name: str
    title: str
    intro: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = field(default_factory=list)


def sections(runs: Sequence[RunFigures]) -> list[Section]:
    """Everything that is drawn, in order of the page."""
    return [
        Section("rounds", "Rounds", "One row a round; M0 is the model that the run started from.",
                tables=[_round_table(runs)]),
        Section("quality", "How good are the answers?",
                "Answers to held-out prompts, which no round trains on. Bars are 95 % intervals.",
                plots=[*(_curve(runs, curve) for curve in CURVES if curve.section == "quality"),
                       *(_flip_plot(run, runs) for run in runs)]),
        Section("texts", "What became of the texts?",
                "Answers that grow, or grow alike, often say that a judge is being pleased rather than served.",
                plots=[_length_plot(runs), *(_curve(runs, curve) for curve in CURVES if curve.section == "texts"),
                       _diversity_plot(runs)]),
        Section("judges", "Can the judge be trusted?",
                "Everything that a round learns comes from its judge.",
                plots=[*(_judge_curve(runs, curve) for curve in JUDGE_CURVES), *(_kind_plot(run, runs) for run in runs),
                       _agreement_plot(runs),
                       *(_curve(runs, curve) for curve in CURVES if curve.section == "judges"), *_health_plots(runs),
                       *_score_plots(runs)],
                tables=[_health_table(runs), _review_table(runs)]),
        Section("yields", "From prompts to training examples",
                f"Prompts that got so far, and why others did not. Bars show the last {RECENT} rounds.",
                plots=[*(plot for run in runs for plot in (_funnel_plot(run, runs), _fate_plot(run, runs))),
                       *(_curve(runs, curve) for curve in CURVES if curve.section == "yields")]),
        Section("training", "Training",
                "What the training did to the answers it was given, against the reference.",
                plots=[_curve(runs, curve) for curve in CURVES if curve.section == "training"],
                tables=[_training_table(runs)]),
        Section("gates", "Gates", "Rules over a round's figures, and what followed.", tables=[_gate_table(runs)]),
        Section("cost", "Cost by stage", "Seconds of all attempts, the loading of models included.",
                plots=[_cost_plot(runs)], tables=[_cost_table(runs)]),
    ]  # fmt: skip


# -- curves --------------------------------------------------------------------------------------------

_CURVE_COLUMNS = ("run", "branch", "round", "figure", "value", "low", "high", "n")


def _curve(runs: Sequence[RunFigures], curve: Curve) -> Plot:
    rows = [
        _point(run, found, curve.metrics[found.metric], found.metric)
        for run in runs
        for found in run.measured
        if found.metric in curve.metrics and found.split == curve.split and _shown(run, found)
    ]
    return _drawn(curve, runs, rows, list(curve.metrics.values()))


def _judge_curve(runs: Sequence[RunFigures], curve: Curve) -> Plot:
    """A line a judge where the curve is one metric, else a line a metric of the run's own judge."""
    by_judge = curve.name in BY_JUDGE
    rows = [
        _point(run, found, _judge_name(found) if by_judge else curve.metrics[found.metric], found.metric)
        for run in runs
        for found in run.judge_figures
        if found.metric in curve.metrics and (by_judge or found.whole) and _shown(run, found)
    ]
    return _drawn(curve, runs, rows, list(dict.fromkeys(row["series"] for row in rows)))


def _judge_name(found: JudgeFigure) -> str:
    """Members and judges that were measured by hand, maybe several of one name, have a split of their own."""
    return f"{found.judge} (the run's judge)" if found.whole else f"{found.judge} ({found.split.rpartition('-')[2]})"


def _shown(run: RunFigures, found: Measured | JudgeFigure) -> bool:
    latest = [branch.branch for branch in run.branches][-_BRANCHES:]
    return found.value is not None and (found.branch is None or found.branch in latest)


def _point(run: RunFigures, found: Measured | JudgeFigure, series: str, metric: str) -> Row:
    return {
        "run": run.label, "branch": found.branch, "round": found.round, "figure": metric, "value": found.value,
        "low": found.low, "high": found.high, "n": found.n, "series": series, "line": _line(run, found.branch),
    }  # fmt: skip


def _line(run: RunFigures, branch: str | None) -> str:
    return f"{run.label}, branch {branch}" if branch else run.label


def _drawn(curve: Curve, runs: Sequence[RunFigures], rows: Sequence[Row], series: Sequence[str]) -> Plot:
    if not rows:
        return Plot(curve.name, curve.title, curve.about, _CURVE_COLUMNS, absent=curve.absent)
    # Runs come first in every plot, measured or not, so that each has one colour on the whole page.
    lines = list(dict.fromkeys([*(run.label for run in runs), *(row["line"] for row in rows)]))
    series = [name for name in series if any(row["series"] == name for row in rows)]
    several = len(lines) > 1
    for row in rows:
        row["colour"] = row["line"] if several else row["series"]
        row["place"] = f"{row['line']}/{row['series']}"
    spec = charts.curve(
        curve.axis,
        lines if several else series,
        series,
        from_zero=curve.from_zero,
        domain=curve.domain,
        line_at=curve.line_at,
    )
    return Plot(curve.name, curve.title, curve.about, _CURVE_COLUMNS, rows, spec)


# -- quality -------------------------------------------------------------------------------------------

_FLIPS = {"gained": "now passes", "lost": "no longer passes"}


def _flip_plot(run: RunFigures, runs: Sequence[RunFigures]) -> Plot:
    recent = _recent(run, [found.round for found in run.flips])
    rows = [
        {
            "run": run.label, "round": found.round, "change": change, "n": getattr(found, change), "answers": found.answers,
            "group": f"M{found.round}", "colour": words, "value": getattr(found, change),
            "note": f"of {found.answers} answers compared with M{found.round - 1}'s",
        }
        for found in run.flips
        if found.round in recent
        for change, words in _FLIPS.items()
    ]  # fmt: skip
    name, title = _name("held_out_flips", run, runs), _of(run, runs, "Held-out answers that changed")
    about = "A pass rate that stands still may hide many that got better and as many that got worse; some are below, to read."
    columns = ("run", "round", "change", "n", "answers")
    if not rows:
        absent = "no two models were held against the same held-out prompts with constraints yet"
        return Plot(name, title, about, columns, absent=absent)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    return Plot(name, title, about, columns, rows, charts.grouped_bars("answers", groups, list(_FLIPS.values())))


# -- texts ---------------------------------------------------------------------------------------------

_KINDS = {
    "candidates": "sampled for training", "chosen": "chosen", "rejected": "rejected", "desirable": "wanted",
    "undesirable": "not wanted", "held_out": "held-out answers",
}  # fmt: skip


def _length_plot(runs: Sequence[RunFigures]) -> Plot:
    curve = Curve(
        "length_by_kind", "Length of every kind of text",
        "Mean length in tokens. A chosen side that is always the longer one teaches length.", "tokens, mean", {},
        section="texts", absent="no texts were made yet",
    )  # fmt: skip
    rows = [
        {
            "run": run.label, "branch": None, "round": found.round, "figure": found.kind, "value": found.mean_tokens,
            "low": None, "high": None, "n": found.n, "series": _KINDS.get(found.kind, found.kind), "line": run.label,
        }
        for run in runs
        for found in run.lengths
    ]  # fmt: skip
    return _drawn(curve, runs, rows, list(_KINDS.values()))


def _diversity_plot(runs: Sequence[RunFigures]) -> Plot:
    curve = Curve(
        "distinct_candidates", "Do samples repeat themselves?",
        "Share of training candidates whose text another candidate of the prompt has too, and of those that the prompt had "
        "in an earlier round.",
        "share of candidates", {}, section="texts", absent="no training candidates were sampled yet",
    )  # fmt: skip
    names = {"duplicate_share": "said twice in a round", "seen_before": "said in an earlier round"}
    rows = [
        {
            "run": run.label, "branch": None, "round": found.round, "figure": figure, "value": value, "low": None,
            "high": None, "n": found.candidates, "series": names[figure], "line": run.label,
        }
        for run in runs
        for found in run.diversity
        for figure, value in (
            ("duplicate_share", found.duplicate_share), ("seen_before", found.seen_before / max(found.candidates, 1))
        )
    ]  # fmt: skip
    return _drawn(curve, runs, rows, list(names.values()))


# -- judges --------------------------------------------------------------------------------------------


#: Models whose figures are written into the cells of a heatmap; more would not fit.
_WRITTEN = 10


def _kind_plot(run: RunFigures, runs: Sequence[RunFigures]) -> Plot:
    """Of the run's own judge, as it stands, on the gold items that its figures are of."""
    own = [found for found in run.judge_by_kind if found.whole and found.branch is None and found.value is not None]
    # Measured by hand on another split as well, say; test comes after calibrate.
    split = max((found.split for found in own), default="")
    rows = [
        {**asdict(found), "run": run.label, "down": _words(found.kind), "across": f"M{found.round}"}
        for found in own
        if found.split == split
    ]
    name, title = _name("judge_by_kind", run, runs), _of(run, runs, "On which gold items is the run's judge right?")
    about = "By what makes the worse answer worse; a tie counts half, 0.5 is chance."
    columns = ("run", "round", "judge", "kind", "value", "low", "high", "n", "split")
    if not rows:
        absent = "not measured: no stage calibrate (its default is to measure judges that are models)"
        return Plot(name, title, about, columns, absent=absent)
    models = [f"M{round}" for round in sorted({row["round"] for row in rows})]
    kinds = sorted({row["down"] for row in rows})
    spec = charts.heatmap("share right", kinds, models, written=len(models) <= _WRITTEN)
    return Plot(name, title, about, columns, rows, spec)


def _agreement_plot(runs: Sequence[RunFigures]) -> Plot:
    curve = Curve(
        "judge_agreement", "Does the judge agree with checked constraints?",
        "Share of two answers to a prompt, of which the verifier finds one better, that a model judge orders likewise; "
        "a tie counts half. 0.5 is chance.",
        "share ordered as the verifier does", {}, section="judges", line_at=0.5, domain=(0, 1),
        absent="needs a judge with a model, and prompts whose constraints were checked as well",
    )  # fmt: skip
    rows = [
        {
            "run": run.label, "branch": None, "round": found.round, "figure": "agreement", "value": found.agreement,
            "low": None, "high": None, "n": found.n, "series": found.judge, "line": run.label,
        }
        for run in runs
        for found in run.agreement
    ]  # fmt: skip
    return _drawn(curve, runs, rows, sorted({found.judge for run in runs for found in run.agreement}))


_OUTCOMES = {
    "ok": "valid", "tie": "tie", "disagree": "changed with the order", "parse_error": "could not be read",
    "out_of_range": "out of range", "truncated": "cut off", "refused": "refused",
}  # fmt: skip


def _health_plots(runs: Sequence[RunFigures]) -> list[Plot]:
    return [_health_plot(run, runs) for run in runs]


def _health_plot(run: RunFigures, runs: Sequence[RunFigures]) -> Plot:
    title = _of(run, runs, "What became of the judges' votes")
    about = "Only valid votes may become labels."
    columns = ("run", "round", "judge", "outcome", "votes", "share")
    recent = _recent(run, [found.round for found in run.health])
    rows = [
        {
            "run": run.label, "round": found.round, "judge": found.judge, "outcome": outcome,
            "votes": getattr(found, outcome), "share": getattr(found, outcome) / found.votes,
            "bar": f"round {found.round}, {found.judge}", "part": words, "value": getattr(found, outcome) / found.votes,
            "order": order,
        }
        for found in run.health
        if found.round in recent
        for order, (outcome, words) in enumerate(_OUTCOMES.items())
        if getattr(found, outcome)
    ]  # fmt: skip
    name = _name("judge_votes", run, runs)
    if not rows:
        return Plot(name, title, about, columns, absent="no answer was judged yet, or the method needs no judge")
    bars = list(dict.fromkeys(row["bar"] for row in rows))
    parts = [words for words in _OUTCOMES.values() if any(row["part"] == words for row in rows)]
    return Plot(name, title, about, columns, rows, charts.stacked_bars("share of votes", bars, parts, share=True))


def _score_plots(runs: Sequence[RunFigures]) -> list[Plot]:
    return [
        _score_plot(run, judge, runs) for run in runs for judge in dict.fromkeys(found.judge for found in run.scores)
    ]


def _score_plot(run: RunFigures, judge: str, runs: Sequence[RunFigures]) -> Plot:
    recent = _recent(run, [found.round for found in run.scores])
    rows = [
        {
            **asdict(found), "run": run.label, "middle": (found.bin_low + found.bin_high) / 2, "value": found.share,
            "colour": f"round {found.round}",
        }
        for found in run.scores
        if found.judge == judge and found.round in recent
    ]  # fmt: skip
    colours = list(dict.fromkeys(row["colour"] for row in rows))
    columns = ("run", "round", "judge", "bin_low", "bin_high", "n", "share")
    title = _of(run, runs, f"Scores of {judge}")
    about = "A judge that gives one score to nearly everything says nothing. Empty bins are left out."
    return Plot(_name(f"scores_{judge}", run, runs), title, about, columns, rows, charts.histogram("score", colours))


def _health_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "round": "round", "judge": "judge", "votes": "votes", "ok_rate": "valid",
        "mean_score": "mean score", "sd_score": "spread", "share_at_mode": "share at the commonest score",
    }  # fmt: skip
    rows = [{"run": run.label, **asdict(found)} for run in runs for found in run.health]
    return Table("judge_health", "Votes on training answers", "", columns, rows, "no answer was judged yet")


def _review_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "round": "pairs of round", "accepted": "accepted", "flipped": "flipped", "rejected": "rejected",
        "agreement": "agree with the judge", "changed": "honoured by the training of",
    }  # fmt: skip
    rows = [
        {
            "run": run.label, **asdict(found),
            "changed": ", ".join(f"M{round} ({n})" for round, n in found.changed.items()) or None,
        }
        for run in runs
        for found in run.reviewed
    ]  # fmt: skip
    about = (
        "The last word on each pair, also of reviews that no round has taken yet. Agree: accepted of those accepted or "
        "flipped, which is a share of what people chose to read. Honoured: trainings that flipped or left out a pair of "
        "the round, and how many."
    )
    absent = "nobody has reviewed a pair of this run; 'selfalign browse' is where people do"
    return Table("reviews", "What people said of the judge's pairs", about, columns, rows, absent)


# -- yields --------------------------------------------------------------------------------------------

_STEPS = {
    "prompts": "prompts", "answered": "answered", "judged": "with a valid vote", "kept": "kept by the resampler",
    "paired": "gave an example",
}  # fmt: skip


def _funnel_plot(run: RunFigures, runs: Sequence[RunFigures]) -> Plot:
    recent = _recent(run, [found.round for found in run.funnel])
    rows = [
        {
            **asdict(found), "run": run.label, "group": _STEPS[found.name], "colour": f"round {found.round}",
            "value": found.prompts, "note": f"{found.share:.0%} of the round's prompts; {found.row_count} rows",
        }
        for found in run.funnel
        if found.round in recent
    ]  # fmt: skip
    name, title = _name("yield_funnel", run, runs), _of(run, runs, "How far prompts got")
    about, columns = (
        "Prompts at every step. An example is a pair, a label or a ranking.",
        ("run", "round", "step", "name", "prompts", "row_count", "share"),
    )
    if not rows:
        return Plot(name, title, about, columns, absent="no round has training prompts yet")
    groups = [words for step, words in _STEPS.items() if any(row["name"] == step for row in rows)]
    colours = list(dict.fromkeys(row["colour"] for row in rows))
    return Plot(name, title, about, columns, rows, charts.grouped_bars("prompts", groups, colours, ordinal=True))


def _fate_plot(run: RunFigures, runs: Sequence[RunFigures]) -> Plot:
    recent = _recent(run, [found.round for found in run.fates])
    reasons = sorted(
        {found.reason for found in run.fates if found.round in recent}, key=lambda reason: (reason != "paired", reason)
    )
    rows = [
        {
            **asdict(found), "run": run.label, "bar": f"round {found.round}", "part": found.reason.replace("_", " "),
            "value": found.prompts, "order": reasons.index(found.reason),
        }
        for found in run.fates
        if found.round in recent
    ]  # fmt: skip
    name, title = _name("yields", run, runs), _of(run, runs, "What became of the prompts")
    about, columns = "Every training prompt counts once.", ("run", "round", "reason", "prompts")
    if not rows:
        return Plot(name, title, about, columns, absent="no round has training prompts yet")
    bars = list(dict.fromkeys(row["bar"] for row in rows))
    parts = [reason.replace("_", " ") for reason in reasons]
    return Plot(name, title, about, columns, rows, charts.stacked_bars("prompts", bars, parts))


# -- cost ----------------------------------------------------------------------------------------------


def _cost_plot(runs: Sequence[RunFigures]) -> Plot:
    seconds: dict[tuple[str, str], float] = {}
    for run in runs:
        for found in run.costs:
            if found.seconds is not None:
                seconds[run.label, found.stage] = seconds.get((run.label, found.stage), 0.0) + found.seconds
    unit, length = ("minutes", 60) if sum(seconds.values()) > 600 else ("seconds", 1)
    rows: list[Row] = [
        {
            "run": run, "stage": stage, "seconds": spent, "group": stage.replace("_", " "), "colour": run,
            "value": spent / length, "note": f"{spent:.1f} s",
        }
        for (run, stage), spent in seconds.items()
    ]  # fmt: skip
    columns = ("run", "stage", "seconds")
    about = "Time in every stage, over all rounds."
    if not rows:
        return Plot("cost_by_stage", "Where the time went", about, columns, absent="no stage has ended yet")
    groups = list(dict.fromkeys(row["group"] for row in rows))
    colours = list(dict.fromkeys(row["colour"] for row in rows))
    return Plot(
        "cost_by_stage", "Where the time went", about, columns, rows, charts.grouped_bars(unit, groups, colours)
    )


# -- tables --------------------------------------------------------------------------------------------


def _run_column(runs: Sequence[RunFigures]) -> dict[str, str]:
    return {"run": "run"} if len(runs) > 1 else {}


def _round_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "model": "model", "trained_on": "trained on", "pass_rate_strict": "strict pass rate",
        "delta_vs_m0": "against M0", "win_rate_vs_previous": "wins over previous", "judge_accuracy": "judge right",
        "mean_length": "tokens", "gate": "gates", "seconds": "time",
    }  # fmt: skip
    rows = [
        {
            **asdict(found), "run": run.label, "trained_on": _trained_on(asdict(found)),
            "gate": _words(f"{found.gate}: {found.gate_failed}" if found.gate_failed else found.gate),
        }
        for run in runs
        for found in run.rounds
    ]  # fmt: skip
    about = "Strict: share of held-out prompts whose every constraint is met; against M0, paired by prompt."
    return Table("rounds", "", about, _without_empty(columns, rows), rows, "no round has begun yet")


def _trained_on(row: Row) -> str | None:
    """How many rows of each kind."""
    kinds = {"pairs": "pairs", "labels": "labels", "rankings": "rankings", "replayed": "of earlier rounds"}
    return ", ".join(f"{row[name]} {words}" for name, words in kinds.items() if row[name]) or None


def _training_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "round": "round", "trainer": "trainer", "method": "method", "n_examples": "examples",
        "replayed": "of earlier rounds", "starts_from": "starts from", "reference": "compared with",
        "learning_rate": "learning rate", "beta": "beta",
    }  # fmt: skip
    rows = [{"run": run.label, **asdict(found)} for run in runs for found in run.training]
    return Table(
        "round_policy", "What each round trained", "", _without_empty(columns, rows), rows, "no round was trained yet"
    )


def _gate_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "round": "round", "branch": "branch", "rule": "rule", "figure": "figure", "value": "value",
        "threshold": "bound", "verdict": "verdict", "done": "what followed", "reason": "why",
    }  # fmt: skip
    rows = [
        {"run": run.label, **asdict(found), "verdict": _words(found.verdict), "done": _words(found.done)}
        for run in runs
        for found in run.decisions
    ]
    return Table(
        "gate_decisions", "", "", _without_empty(columns, rows), rows, "no gate has decided yet, or the config has none"
    )


def _cost_table(runs: Sequence[RunFigures]) -> Table:
    columns = {
        **_run_column(runs), "round": "round", "stage": "stage", "status": "status", "attempts": "attempts",
        "seconds": "seconds", "share": "share", "rows_out": "rows made", "tokens_written": "tokens written",
        "tokens_read": "tokens read",
    }  # fmt: skip
    rows = [{"run": run.label, **asdict(found)} for run in runs for found in run.costs]
    return Table("costs", "Every stage of every round", "", columns, rows, "no stage has begun yet")


def _without_empty(columns: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    return {key: words for key, words in columns.items() if any(row.get(key) not in (None, "") for row in rows)}


def _words(code: str | None) -> str | None:
    return code.replace("_", " ") if code else code


def _recent(run: RunFigures, rounds: Sequence[int]) -> set[int]:
    return set(sorted(set(rounds))[-RECENT:])


def _of(run: RunFigures, runs: Sequence[RunFigures], title: str) -> str:
    return f"{title}: {run.label}" if len(runs) > 1 else title


def _name(name: str, run: RunFigures, runs: Sequence[RunFigures]) -> str:
    return f"{name}-{list(runs).index(run) + 1}" if len(runs) > 1 else name
