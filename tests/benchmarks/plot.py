"""Curves as one SVG picture of small panels, both axes from 0. No library: it is lines and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.benchmarks.growth import Curve

_WIDTH, _HEIGHT, _MARGIN, _ACROSS = 300, 210, 45, 3


def svg(curves: Sequence[Curve]) -> str:
    """A panel a curve: what grows to the right, seconds upwards."""
    down = -(-len(curves) // _ACROSS)
    panels = [
        f'<g transform="translate({number % _ACROSS * _WIDTH},{number // _ACROSS * _HEIGHT})">{_panel(curve)}</g>'
        for number, curve in enumerate(curves)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_ACROSS * _WIDTH}" height="{down * _HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(curve: Curve) -> str:
    left, right, top, bottom = _MARGIN, _WIDTH - 15, 30, _HEIGHT - 40
    most_x, most_y = max(curve.points), max(curve.points.values()) or 1.0
    at = [
        (left + (right - left) * x / most_x, bottom - (bottom - top) * y / most_y)
        for x, y in sorted(curve.points.items())
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#1f5fa8"/>' for x, y in at)
    labels = "".join(
        f'<text x="{x:.1f}" y="{bottom + 13}" text-anchor="middle">{size:,}</text>'
        for (x, _), size in zip(at, sorted(curve.points), strict=True)
    )
    return (
        f'<text x="{left}" y="18" font-weight="bold">{escape(curve.name)}</text>'
        f'<path d="M{left},{top} V{bottom} H{right}" fill="none" stroke="#555"/>'
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>{dots}{labels}'
        f'<text x="{left - 4}" y="{top + 4}" text-anchor="end">{most_y:.3g} s</text>'
        f'<text x="{(left + right) / 2}" y="{bottom + 28}" text-anchor="middle">{escape(curve.x)}</text>'
    )
