"""A judge's figures as rows of ``evaluations`` and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from selfalign.calibration.figures import JudgeFigures
from selfalign.calibration.mapping import Fit
from selfalign.evaluation.statistics import Interval
from selfalign.identity import canonical
from selfalign.types import Evaluation

#: Figures are kept to this many significant digits: the last bits are the linear algebra library's.
_DIGITS = 12


def evaluation_rows(
    figures: JudgeFigures, run: str, round: int, split: str, context: Mapping[str, Any]
) -> list[Evaluation]:
    """One row a metric that the judge has; each says whose figure it is (judge, judge_hash and ``context``)."""
    whose = {"judge": figures.judge.name, "judge_hash": figures.judge.judge_hash, **context}
    return [
        Evaluation(
            run, round, metric, split, _short(figure.value), _short(figure.low), _short(figure.high), figure.n,
            canonical(_rounded({**whose, **detail})),
        )
        for metric, (figure, detail) in _metrics(figures).items()
    ]  # fmt: skip


def as_json(figures: JudgeFigures, fit: Fit | None = None, **context: Any) -> dict[str, Any]:
    """One flat object a judge for scripts: the headline figure with its interval, then every metric, then details."""
    metrics = _metrics(figures)
    found: dict[str, Any] = {
        "judge": figures.judge.name,
        "judge_hash": figures.judge.judge_hash,
        **context,
        "judge_pairwise_accuracy": figures.accuracy.value,
        "low": figures.accuracy.low,
        "high": figures.accuracy.high,
        "n": figures.n,
        "skipped": figures.skipped,
        "metrics": {name: asdict(figure) for name, (figure, _) in metrics.items()},
        "results": dict(figures.results),
        "outcomes": dict(figures.outcomes),
        "by_kind": {name: asdict(figure) for name, figure in figures.by_kind.items()},
        "by_language": {name: asdict(figure) for name, figure in figures.by_language.items()},
        "length": asdict(figures.length),
        "position": asdict(figures.position) if figures.position else None,
        "histogram": asdict(figures.histogram),
        "calibration": asdict(figures.calibration),
        "fit": dict(fit.as_dict()) if fit else None,
    }
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def _metrics(figures: JudgeFigures) -> dict[str, tuple[Interval, dict[str, Any]]]:
    """Metric -> figure and what stands beside it; a metric that does not apply to the judge is left out."""
    length, position = figures.length, figures.position
    ece = Interval(figures.calibration.ece, None, None, figures.calibration.brier.n)
    fitted = {"fitted": figures.calibration.fitted}
    found: dict[str, tuple[Interval, dict[str, Any]]] = {
        "judge_pairwise_accuracy": (
            figures.accuracy,
            {
                "results": dict(figures.results), "skipped": figures.skipped,
                "by_kind": _brief(figures.by_kind), "by_language": _brief(figures.by_language),
            },
        ),
        "judge_pairwise_accuracy_decided": (figures.decided, {}),
        "judge_tie_share": (figures.ties, {}),
        "judge_parse_rate": (figures.parse_rate, {"outcomes": dict(figures.outcomes)}),
        "judge_length_bias": (
            length.difference,
            _brief({"longer": length.longer, "matched": length.matched, "shorter": length.shorter}),
        ),
        "judge_length_slope": (length.slope, {}),
        "judge_ece": (ece, {**fitted, "bins": [asdict(bin) for bin in figures.calibration.bins]}),
        "judge_brier": (figures.calibration.brier, fitted),
    }  # fmt: skip
    if position:
        found["judge_position_bias"] = (position.to_first, {})
        found["judge_order_flips"] = (position.flips, {})
    if figures.consistency:
        found["judge_self_consistency"] = (figures.consistency, {})
    if figures.tokens:
        found["judge_tokens"] = (figures.tokens, {})
    found["judge_pairwise_accuracy"][1]["histogram"] = asdict(figures.histogram)
    return found


def _brief(figures: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return _short(value)
    if isinstance(value, Mapping):
        return {name: _rounded(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(member) for member in value]
    return value
