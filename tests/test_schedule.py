from __future__ import annotations

from datetime import timedelta

import pytest

from selfalign.errors import BadInput
from selfalign.schedule import extended, last_round, parse_interval


@pytest.mark.parametrize(
    ("done", "rounds", "per_start", "expected"),
    [(None, 3, None, 3), (None, 3, 1, 1), (0, 3, 1, 1), (1, 3, 1, 2), (1, 3, 5, 3), (3, 3, 1, 3), (2, 3, None, 3)],
)
def test_a_start_makes_its_piece(done: int | None, rounds: int, per_start: int | None, expected: int) -> None:
    assert last_round(done, rounds, per_start) == expected


@pytest.mark.parametrize(
    ("done", "begun", "rounds", "extend", "expected"),
    [
        (None, None, 2, 1, 2),
        (2, 2, 2, 0, 2),
        (2, 2, 2, 3, 5),
        (2, 3, 2, 3, 3),  # an extension that was begun is finished before the next
        (3, 3, 2, 1, 4),
    ],
)
def test_a_firing_extends_only_what_is_done(
    done: int | None, begun: int | None, rounds: int, extend: int, expected: int
) -> None:
    assert extended(done, begun, rounds, extend) == expected


def test_intervals() -> None:
    assert parse_interval("90") == timedelta(seconds=90)
    assert parse_interval("10m") == timedelta(minutes=10)
    assert parse_interval("1.5h") == timedelta(hours=1.5)
    for wrong in ("", "0", "-5", "10 weeks", "m"):
        with pytest.raises(BadInput, match="--interval"):
            parse_interval(wrong)
