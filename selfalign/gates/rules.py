"""The rules of a config over one round: which fail, and what has to follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfalign.gates.settings import Action, GateSettings
from selfalign.protocols import Gate, GateInput
from selfalign.types import Decision

_STRENGTH: tuple[Action, ...] = ("continue", "ask", "stop", "roll_back")


@dataclass(frozen=True)
class Ruling:
    """A decision, the rule that made it (its name and place in ``gates``), and what follows if it is "fail"."""

    rule: str
    index: int
    decision: Decision
    action: Action

    @property
    def failed(self) -> bool:
        return self.decision.verdict == "fail"


def rule_on(gates: Sequence[tuple[Gate, GateSettings]], data: GateInput, *, can_roll_back: bool) -> list[Ruling]:
    """Every rule's decisions, in order. Where the round cannot be rolled back, "roll_back" is "stop"."""
    found = []
    for index, (gate, settings) in enumerate(gates):
        action = "stop" if settings.action == "roll_back" and not can_roll_back else settings.action
        if data.round < settings.from_round:
            early = Decision("", "not_applicable", f"the rule begins with round {settings.from_round}")
            found.append(Ruling(gate.name, index, early, action))
            continue
        for decision in gate.decide(data):
            if settings.required and decision.verdict == "not_applicable":
                found.append(Ruling(gate.name, index, _missing(decision, index), "stop"))
            else:
                found.append(Ruling(gate.name, index, decision, action))
    return found


def strongest(rulings: Sequence[Ruling]) -> Action | None:
    """The action that the failed rules ask for; None where none failed."""
    return max((ruling.action for ruling in rulings if ruling.failed), key=_STRENGTH.index, default=None)


def in_words(ruling: Ruling) -> str:
    """``gate length: mean_length_tokens ratio to M0 2.310 [2.050, 2.600], n 80, must ...``."""
    decision = ruling.decision
    figure = f"{decision.figure} {number(decision)}".strip()
    return f"gate {ruling.rule}: {figure}{',' if decision.value is not None else ''} {decision.reason}"


def number(decision: Decision) -> str:
    """``0.512 [0.447, 0.577], n 226``; empty where there is none."""
    if decision.value is None:
        return ""
    interval = f" [{decision.low:.3f}, {decision.high:.3f}]" if None not in (decision.low, decision.high) else ""
    return f"{decision.value:.3f}{interval}{f', n {decision.n}' if decision.n else ''}"


def _missing(decision: Decision, index: int) -> Decision:
    return Decision(
        decision.figure, "fail", f"{decision.reason}, and the rule requires it",
        remedy=f"have it measured, or set gates.{index}.required: false",
    )  # fmt: skip
