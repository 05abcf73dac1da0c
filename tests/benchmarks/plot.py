"""Curves as one SVG picture of small panels, both axes from 0."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import vl_convert

from tests.benchmarks.growth import Curve

_ACROSS = 3


def svg(curves: Sequence[Curve]) -> str:
    """A panel a curve: what grows to the right, seconds upwards."""
    panels = alt.concat(*map(_panel, curves), columns=_ACROSS).configure(background="white")
    drawn: str = vl_convert.vegalite_to_svg(panels.to_dict())
    return drawn


def _panel(curve: Curve) -> alt.Chart:
    points = [{"size": size, "seconds": seconds} for size, seconds in sorted(curve.points.items())]
    across = alt.X(
        "size:Q", title=curve.x, scale=alt.Scale(zero=True), axis=alt.Axis(values=[p["size"] for p in points])
    )
    up = alt.Y("seconds:Q", title="seconds", scale=alt.Scale(zero=True))
    return (
        alt.Chart(alt.Data(values=points), title=curve.name, width=220, height=150)
        .mark_line(point=True)
        .encode(x=across, y=up)
    )
