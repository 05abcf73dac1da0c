"""Vega-Lite specifications, built with Altair. They hold no rows: data and colours are the page's.

Every chart draws the rows named ``rows``; the field ``colour`` decides the colour, and with it the shape of points or the
dashes of lines, so that nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

_HEIGHT = 220
#: Pixels a bar.
_BAR = 22
_ROWS = "rows"


def curve(
    axis: str,
    colours: Sequence[str],
    series: Sequence[str],
    *,
    from_zero: bool = True,
    domain: tuple[float, float] | None = None,
    line_at: float | None = None,
) -> dict[str, Any]:
    """A value by round with its interval.

    Rows: round, line, series, colour, place, value, low, high, n.

    Args:
        axis: what the value is.
        colours: values of ``colour`` in the order of the palette; one is drawn without a legend.
        series: values of ``series``; several get dashes of their own.
        from_zero: whether the axis begins at 0.
        line_at: a value to compare with: chance, or no change.
    """
    y = alt.Y(
        "value:Q", title=axis, scale=alt.Scale(zero=from_zero, nice=True, **({"domain": domain} if domain else {}))
    )
    shared: dict[str, Any] = {
        "x": alt.X(
            "round:O", title="model after round", axis=alt.Axis(labelExpr="'M' + datum.value", labelAngle=0, grid=False)
        ),
        "xOffset": alt.XOffset("place:N", sort=None),
        "color": _colour(colours),
        "tooltip": _tooltip(["line", "series", "round", "value", "low", "high", "n"]),
    }
    # With one line the series have the colours, and dashes and shapes say the same again: legends of one field join.
    told_by = "colour" if list(colours) == list(series) else "series"
    dashes = {"strokeDash": alt.StrokeDash(f"{told_by}:N", sort=None, scale=_scale(series), legend=_legend(series))}
    layers: list[Any] = [
        alt.Chart().encode(**shared).mark_line(strokeWidth=2).encode(y=y, **(dashes if len(series) > 1 else {})),
        alt.Chart().encode(**shared).mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", title=axis), y2="high:Q"),
        alt.Chart().encode(**shared).mark_point(filled=True, size=55, opacity=1).encode(y=y, shape=_shape(colours)),
    ]
    if line_at is not None:
        layers.insert(
            0, alt.Chart().mark_rule(strokeDash=[2, 3], strokeWidth=1.5).encode(y=alt.datum(line_at, title=axis))
        )
    return _spec(alt.layer(*layers), _HEIGHT)


def stacked_bars(value: str, bars: Sequence[str], parts: Sequence[str], *, share: bool = False) -> dict[str, Any]:
    """Horizontal bars of parts that add up. Rows: bar, part, value."""
    chart = alt.Chart().mark_bar().encode(
        y=alt.Y("bar:N", title=None, sort=list(bars), axis=alt.Axis(labelLimit=170)),
        x=alt.X("value:Q", title=value, scale=alt.Scale(zero=True, **({"domain": (0, 1)} if share else {}))),
        color=alt.Color("part:N", sort=None, scale=_scale(parts), legend=_legend(parts, least=1)),
        order=alt.Order("order:Q"),
        tooltip=_tooltip(["bar", "part", "value"]),
    )  # fmt: skip
    return _spec(chart, max(60, (_BAR + 6) * len(bars)))


def grouped_bars(value: str, groups: Sequence[str], colours: Sequence[str], *, ordinal: bool = False) -> dict[str, Any]:
    """Horizontal bars, those of a group beside one another. Rows: group, colour, value, and what ``note`` says.

    ``ordinal``: the colours have an order, as rounds have.
    """
    chart = alt.Chart().mark_bar().encode(
        y=alt.Y("group:N", title=None, sort=list(groups), axis=alt.Axis(labelLimit=170)),
        yOffset=alt.YOffset("colour:N", sort=list(colours)),
        x=alt.X("value:Q", title=value, scale=alt.Scale(zero=True)),
        color=_colour(colours, ordinal=ordinal),
        tooltip=_tooltip(["group", "colour", "value", "note"]),
    )  # fmt: skip
    return _spec(chart, max(80, (8 + 14 * len(colours)) * len(groups)))


def histogram(value: str, colours: Sequence[str]) -> dict[str, Any]:
    """Shares by bin, a line a round. Rows: middle, colour, value, bin_low, bin_high, n."""
    base = alt.Chart().encode(
        x=alt.X("middle:Q", title=value, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", title="share of the round's votes", scale=alt.Scale(zero=True)),
        color=_colour(colours, ordinal=True),
        tooltip=_tooltip(["colour", "bin_low", "bin_high", "value", "n"]),
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(shape=_shape(colours))
    return _spec(alt.layer(base.mark_line(strokeWidth=2), points), _HEIGHT)


def heatmap(value: str, down: Sequence[str], across: Sequence[str], *, written: bool) -> dict[str, Any]:
    """Shares as colours, 0.5 in the middle. Rows: down, across, value, low, high, n.

    ``written``: whether the value stands in its cell as well.
    """
    base = alt.Chart().encode(
        y=alt.Y("down:N", title=None, sort=list(down), axis=alt.Axis(labelLimit=170)),
        x=alt.X("across:N", title=None, sort=list(across), axis=alt.Axis(labelAngle=0)),
        tooltip=_tooltip(["down", "across", "value", "low", "high", "n"]),
    )
    shades = alt.Scale(scheme="redblue", domain=[0, 1])
    cells = base.mark_rect().encode(
        color=alt.Color("value:Q", scale=shades, legend=alt.Legend(title=value, orient="top", gradientLength=160))
    )
    # The ends of the scale are dark, its middle is light, whatever the page is.
    ink = alt.when("datum.value < 0.2 || datum.value > 0.8").then(alt.value("white")).otherwise(alt.value("black"))
    numbers = base.mark_text(fontSize=11).encode(text=alt.Text("value:Q", format=".2f"), color=ink)
    return _spec(alt.layer(cells, *([numbers] if written else [])), max(80, _BAR * len(down)))


def _colour(colours: Sequence[str], *, ordinal: bool = False) -> Any:
    kind = "colour:O" if ordinal else "colour:N"
    return alt.Color(kind, sort=None, scale=_scale(colours), legend=_legend(colours))


def _shape(colours: Sequence[str]) -> Any:
    return alt.Shape("colour:N", sort=None, scale=_scale(colours), legend=_legend(colours))


def _scale(values: Sequence[str]) -> Any:
    """Legends of colour, shape and dash become one where their field and scale are the same."""
    return alt.Scale(domain=list(values))


def _legend(entries: Sequence[str], least: int = 2) -> Any:
    """One entry needs no legend: the title says what it is. Long names stand below one another."""
    if len(entries) < least:
        return None
    widest = max(len(entry) for entry in entries)
    columns = 1 if widest > 16 else 2 if widest > 6 else 4
    return alt.Legend(title=None, orient="top", direction="horizontal", columns=columns, labelLimit=270)


def _tooltip(names: Sequence[str]) -> list[Any]:
    numbers = {"value", "low", "high", "bin_low", "bin_high"}
    return [
        alt.Tooltip(f"{name}:{'Q' if name in numbers else 'N'}", **({"format": ".4~g"} if name in numbers else {}))
        for name in names
    ]


def _spec(chart: Any, height: int) -> dict[str, Any]:
    chart = chart.properties(data=alt.NamedData(_ROWS), width="container", height=height)
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)  # the page's colours, light or dark, are set there
    found["autosize"] = {"type": "fit-x", "contains": "padding"}
    return found
