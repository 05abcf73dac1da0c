from __future__ import annotations

import random

from selfalign.config import ExecutionSettings
from selfalign.errors import BadInput, EmptyStage, GuardFailed, StageDied, StageFailed, WeightsMismatch
from selfalign.stages.retry import delays, worth_retrying


def test_only_what_may_do_better_next_time_is_retried() -> None:
    assert worth_retrying(StageDied("the process was killed"))
    for error in (
        BadInput(""),
        StageFailed("the loss is nan"),
        EmptyStage(""),
        GuardFailed(""),
        WeightsMismatch(""),
        KeyboardInterrupt(),
        None,
    ):
        assert not worth_retrying(error)


def test_delays_double_and_scatter() -> None:
    found = delays(ExecutionSettings(retries=3, retry_delay_seconds=2), random.Random(1))
    assert [base <= delay <= 1.5 * base for base, delay in zip((2, 4, 8), found, strict=True)] == [True] * 3
    assert delays(ExecutionSettings(retries=0)) == []
