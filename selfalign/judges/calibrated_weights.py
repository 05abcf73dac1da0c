"""Weights of judges by how often they were right: log-odds of their accuracy on the gold set. Pure but for reading.

With independent judges of accuracy a, the sum of log(a / (1 - a)) over those that say "yes" minus those that say
"no" is the optimal vote (Nitzan and Paroush 1982; Shapley and Grofman 1984); one at or below chance has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfalign.errors import ConfigError

_METRIC = "judge_pairwise_accuracy"
#: Assumed where a file does not say how many pairs an accuracy was measured on.
_ASSUMED_N = 50


def log_odds(accuracy: float, n: int | None = None) -> float:
    """max(0, log(a / (1 - a))); 1.0 on n pairs counts as half a mistake, since no judge is infallible."""
    capped = min(accuracy, 1 - 1 / (2 * (n or _ASSUMED_N)))
    return max(0.0, math.log(capped / (1 - capped))) if capped > 0 else 0.0


def read_weights(path: Path) -> dict[str, float]:
    """judge_hash -> log-odds weight, from what ``selfalign calibrate --json`` prints.

    Any nesting of lists and objects is searched for objects that have ``judge_hash`` and
    ``judge_pairwise_accuracy`` (a number, or an object with ``value`` and ``n``), or ``judge_hash``, ``metric`` and
    ``value`` as in the table of evaluations. Of several figures for a judge that of split "calibrate" counts, else the last.

    Raises:
        ConfigError: the file cannot be read, is not JSON, or holds no such figure.
    """
    try:
        data = json.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; write it with selfalign calibrate --json") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}; write it with selfalign calibrate --json") from None
    found: dict[str, tuple[bool, float]] = {}
    for entry in _objects(data):
        if (figure := _figure(entry)) is None:
            continue
        accuracy, n = figure
        if not 0 <= accuracy <= 1:
            raise ConfigError(f"{path}: {_METRIC} {accuracy} of judge {entry['judge_hash']} is not between 0 and 1")
        preferred = entry.get("split") == "calibrate"
        if preferred or not found.get(str(entry["judge_hash"]), (False, 0.0))[0]:
            found[str(entry["judge_hash"])] = (preferred, log_odds(accuracy, n))
    if not found:
        raise ConfigError(f"{path}: holds no judge_hash with {_METRIC}; write it with selfalign calibrate --json")
    return {judge_hash: weight for judge_hash, (_, weight) in found.items()}


def _objects(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, dict):
        yield data
        for value in data.values():
            yield from _objects(value)
    elif isinstance(data, list):
        for value in data:
            yield from _objects(value)


def _figure(entry: Mapping[str, Any]) -> tuple[float, int | None] | None:
    """(accuracy, pairs it was measured on) of an object that has them."""
    if not isinstance(entry.get("judge_hash"), str):
        return None
    value = entry.get(_METRIC, entry.get("value") if entry.get("metric") == _METRIC else None)
    counted: Any = entry
    if isinstance(value, dict):
        counted, value = value, value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    n = counted.get("n", entry.get("n"))
    return float(value), n if isinstance(n, int) and n > 0 else None
