"""How many rounds a start makes, and what a schedule may be. Pure: no clock, no server."""

from __future__ import annotations

import re
from datetime import timedelta

from selfalign.config import RunConfig
from selfalign.errors import BadInput
from selfalign.store.store import Store
from selfalign.workspace import Workspace

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def last_round(done: int | None, rounds: int, per_start: int | None) -> int:
    """The round that a start ends with; ``done`` is the last finished round, None before M_0 is measured."""
    return rounds if per_start is None else min(rounds, (done or 0) + per_start)


def extended(done: int | None, begun: int | None, rounds: int, extend: int) -> int:
    """How many rounds the run has as a firing finds it: ``extend`` more once all that were begun are done."""
    rounds = max(rounds, begun or 0)
    return rounds + extend if done is not None and done >= rounds else rounds


def progress(workspace: Workspace) -> tuple[int | None, int | None]:
    """The last round that is done and the last that was begun; None where there is none."""
    if not workspace.store_path.is_file():
        return None, None
    found = Store(workspace.store_path).query(
        "select max(round) filter (status = 'done') as done, max(round) as begun from rounds"
    )
    row = found.to_pylist()[0]
    return row["done"], row["begun"]


def last_of_start(config: RunConfig) -> int:
    """The round that a start of ``config`` ends with, by what its store has."""
    done, _ = progress(Workspace(config.workspace_path()))
    return last_round(done, config.rounds, config.execution.rounds_per_start)


def for_firing(config: RunConfig) -> tuple[RunConfig, int | None]:
    """The config that a scheduled firing works with, and the round it ends with; None if all are done.

    Raises:
        StoreError: the store cannot be read.
    """
    done, begun = progress(Workspace(config.workspace_path()))
    rounds = extended(done, begun, config.rounds, config.execution.extend)
    last = None if done == rounds else last_round(done, rounds, config.execution.rounds_per_start)
    return config.model_copy(update={"rounds": rounds}), last


def parse_interval(text: str) -> timedelta:
    """``"600"``, ``"10m"``, ``"1.5h"`` ...

    Raises:
        BadInput: it is none of these, or not above zero.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise BadInput(f"--interval {text}: write seconds, or a number with s, m, h or d, e.g. 10m")
    return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})
