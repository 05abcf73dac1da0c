"""The hand-over from the head start to the flow: every stage once, in order, whenever the flow comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flows import head_start as module
from flows.head_start import HeadStart
from selfalign.errors import EmptyStage

STAGES = ["prompts", "generate", "train"]
Place = tuple[int, str]


class Rounds:
    """Stands for the library: stages that are done stay done, and may be told to wait or to fail."""

    def __init__(self, patch: pytest.MonkeyPatch, rounds: int = 2) -> None:
        self.done: list[Place] = []
        self.ended: list[int] = []
        self.held: str | None = None
        self.gates: dict[Place, threading.Event] = {}
        self.errors: dict[Place, BaseException] = {}
        self.stop = threading.Event()
        self.context: Any = SimpleNamespace(
            config=None,
            launcher=SimpleNamespace(started=True),
            stop=self.stop,
        )
        patch.setattr(module, "rounds_left", lambda context: [r for r in range(rounds) if r not in self.ended])
        patch.setattr(module, "stages_of", lambda round, config: STAGES)
        patch.setattr(module, "begin_round", lambda context, round: None)
        patch.setattr(module, "end_round", lambda context, round: self.ended.append(round))
        patch.setattr(module, "run_round_stage", self.run)
        patch.setattr(module, "held", lambda context, round: self.held)

    def run(self, context: Any, round: int, name: str) -> None:
        place = (round, name)
        if place in self.done:
            return
        while not self.gates.get(place, SimpleNamespace(wait=lambda _: True)).wait(0.01):
            if self.stop.is_set():
                raise InterruptedError
        if place in self.errors:
            raise self.errors.pop(place)
        self.done.append(place)

    def flow(self, head: HeadStart, last: int) -> None:
        for round in range(last + 1):
            for name in STAGES:
                head.wait_for(round, name)
                self.run(self.context, round, name)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


ALL = [(round, name) for round in range(2) for name in STAGES]


def eventually(condition: Callable[[], bool]) -> None:
    latest = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.005)


def test_a_flow_that_comes_late_finds_all_done(rounds: Rounds) -> None:
    with HeadStart(rounds.context, last=1) as head:
        eventually(lambda: rounds.ended == [0, 1])
        assert head.label == ""
        rounds.flow(head, last=1)
    assert rounds.done == ALL


@pytest.mark.parametrize("under_way", ALL)
def test_a_flow_that_comes_meanwhile_waits_for_the_stage_and_takes_over(rounds: Rounds, under_way: Place) -> None:
    gate = rounds.gates[under_way] = threading.Event()
    with HeadStart(rounds.context, last=1) as head:
        eventually(lambda: head.label == f"round {under_way[0]} {under_way[1]}")
        threading.Timer(0.05, gate.set).start()
        for place in ALL:
            head.wait_for(*place)
            if ALL.index(place) <= ALL.index(under_way):
                assert place in rounds.done
            else:
                assert place not in rounds.done, "the head start begins nothing after the flow has come"
            rounds.run(rounds.context, *place)
    assert rounds.done == ALL


def test_it_goes_no_further_than_the_last_round_of_the_start(rounds: Rounds) -> None:
    with HeadStart(rounds.context, last=0) as head:
        eventually(lambda: rounds.ended == [0])
        head.wait_for(0, "train")
    assert rounds.ended == [0]


def test_it_begins_nothing_that_is_held(rounds: Rounds) -> None:
    rounds.held = "paused"
    with HeadStart(rounds.context, last=1) as head:
        head.wait_for(0, "prompts")
    assert rounds.done == []


def test_an_error_reaches_whoever_waits_for_the_stage_once(rounds: Rounds) -> None:
    rounds.errors[0, "generate"] = EmptyStage("round 0 generate: nothing")
    with HeadStart(rounds.context, last=1) as head:
        eventually(lambda: not rounds.errors)
        head.wait_for(0, "prompts")
        with pytest.raises(EmptyStage, match="nothing"):
            head.wait_for(0, "generate")
        head.wait_for(0, "generate")  # a retry
        rounds.flow(head, last=1)
    assert rounds.done == ALL


def test_an_exception_in_the_block_ends_the_stage_under_way(rounds: Rounds) -> None:
    rounds.gates[0, "generate"] = threading.Event()  # never opened
    with pytest.raises(KeyboardInterrupt), HeadStart(rounds.context, last=1) as head:
        eventually(lambda: head.label == "round 0 generate")
        raise KeyboardInterrupt
    assert rounds.done == [(0, "prompts")]
