"""How a value stands in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign.visible import visible

#: Where there is nothing to show.
NONE = "–"
#: Shown with their sign.
_DIFFERENCES = frozenset({"delta_vs_m0", "delta_vs_previous"})
_RATES = frozenset(
    {
        "pass_rate_strict", "delta_vs_m0", "win_rate_vs_previous", "win_rate_vs_m0", "judge_accuracy", "ok_rate", "share",
        "share_at_mode", "agreement",
    }
)  # fmt: skip
_MINUTE, _HOUR = 60, 3600


def cell(row: Mapping[str, Any], key: str) -> str:
    """The value of ``key``, with its interval where the row has one."""
    value = row.get(key)
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "seconds":
        return _time(float(value))
    if not isinstance(value, int | float):
        return visible(str(value))
    sign = "+" if key in _DIFFERENCES else ""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if low is not None and high is not None:
        return f"{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]"
    if isinstance(value, int):
        return f"{value:{sign},}"
    return f"{value:{sign}.3f}" if key in _RATES else f"{value:{sign}.4g}"


def _time(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"
