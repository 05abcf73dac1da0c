"""Every built-in rule on figures by hand: which side fails, what is missing, and what noise does not decide."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.errors import ConfigError
from selfalign.gates.figures import difference, ratio
from selfalign.gates.length import growth
from selfalign.gates.rules import in_words, rule_on, strongest
from selfalign.protocols import Gate, GateInput
from selfalign.registry import find, plugins
from selfalign.types import Decision
from tests.gates.figures import figure, measured


def gate(name: str, **settings: Any) -> Gate:
    kind = find("gate", name).load()
    made: Gate = kind(kind.Config.model_validate(settings))
    return made


def verdicts(name: str, data: GateInput, **settings: Any) -> list[str]:
    return [decision.verdict for decision in gate(name, **settings).decide(data)]


@pytest.mark.parametrize("plugin", plugins("gate"), ids=lambda p: p.name)
def test_without_figures_every_rule_says_so(plugin: Any) -> None:
    needed = {"metric": "x", "min": 0} if plugin.name == "figure" else {}
    decisions = gate(plugin.name, **needed).decide(measured(round=5))
    assert decisions
    assert all(d.verdict == "not_applicable" and d.reason and d.value is None for d in decisions)


# -- the judge's accuracy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "verdict"),
    [
        (0.51, 0.45, "fail"),
        (0.56, 0.5, "fail"),
        (0.58, 0.501, "pass"),
        (0.4, 0.3, "fail"),
        (0.7, None, "not_applicable"),
    ],
)
def test_a_judge_must_be_better_than_chance_beyond_noise(value: float, low: float | None, verdict: str) -> None:
    high = None if low is None else 2 * value - low
    found = figure("judge_pairwise_accuracy", value, low, high, split="gold_test", round=0)
    assert verdicts("judge_accuracy", measured(found, round=0)) == [verdict]


def test_before_it_is_taught_a_judge_need_not_be_better_than_chance() -> None:
    found = figure("judge_pairwise_accuracy", 0.5, 0.4, 0.6, split="gold_test")
    assert verdicts("judge_accuracy", replace(measured(found), judges_next=False)) == []


def test_a_judge_is_held_to_its_own_split_and_limit() -> None:
    found = figure("judge_pairwise_accuracy", 0.7, 0.65, 0.75, split="gold_test")
    assert verdicts("judge_accuracy", measured(found), min_low=0.7) == ["fail"]
    assert verdicts("judge_accuracy", measured(found), split="gold_calibrate") == ["not_applicable"]
    assert verdicts("judge_accuracy", measured(found, round=2)) == ["not_applicable"], "an older judge's figure"


def test_a_judge_at_chance_is_named_with_figure_and_remedies() -> None:
    (decision,) = gate("judge_accuracy").decide(
        measured(figure("judge_pairwise_accuracy", 0.512, 0.447, 0.577, split="gold_test", n=226))
    )
    (ruling, *_) = rule_on([(gate("judge_accuracy"), find("gate", "judge_accuracy").load().Config())],
                           measured(figure("judge_pairwise_accuracy", 0.512, 0.447, 0.577, split="gold_test", n=226)),
                           can_roll_back=True)  # fmt: skip
    assert "judge_pairwise_accuracy 0.512 [0.447, 0.577], n 226" in in_words(ruling)
    assert "must exceed 0.5" in decision.reason
    assert all(word in decision.remedy for word in ("teach", "another judge", "min_low"))


# -- the pass rate ----------------------------------------------------------------------------------------


def delta(other: str, value: float, low: float, high: float, p: float | None = 0.001, round: int = 2) -> Any:
    return figure(f"pass_rate_delta_vs_{other}", value, low, high, round=round, p_value=p)


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "verdict"),
    [
        (-0.2, -0.3, -0.1, 0.001, "fail"),
        (-0.2, -0.41, 0.01, 0.06, "pass"),
        (-0.2, -0.3, -0.1, 0.25, "pass"),  # an interval that is too narrow: three prompts, all one way
        (-0.2, -0.3, -0.1, None, "fail"),
        (0.2, 0.1, 0.3, 0.001, "pass"),
    ],
)
def test_only_a_fall_beyond_noise_counts(value: float, low: float, high: float, p: float | None, verdict: str) -> None:
    data = measured(delta("previous", value, low, high, p), round=2)
    assert verdicts("pass_rate", data, against=["previous"]) == [verdict]


def test_a_tolerance_is_borne() -> None:
    data = measured(delta("previous", -0.2, -0.3, -0.1), round=2)
    assert verdicts("pass_rate", data, against=["previous"], tolerance=0.15) == ["pass"]
    assert verdicts("pass_rate", data, against=["previous"], tolerance=0.05) == ["fail"]


def test_no_tolerance_is_zero_and_not_minus_zero() -> None:
    data = measured(delta("previous", 0.1, 0.0, 0.2), round=2)
    (decision,) = gate("pass_rate", against=["previous"]).decide(data)
    assert decision.threshold is not None
    assert math.copysign(1, decision.threshold) == 1
    assert "must not lie below 0 beyond noise" in decision.reason


def test_against_both_models_and_once_where_they_are_one() -> None:
    data = measured(delta("previous", 0.1, -0.1, 0.3, 0.3), delta("m0", -0.2, -0.3, -0.1), round=2)
    assert verdicts("pass_rate", data) == ["pass", "fail"]
    first = measured(delta("previous", -0.2, -0.3, -0.1, round=1), delta("m0", -0.2, -0.3, -0.1, round=1))
    assert verdicts("pass_rate", first) == ["fail"]


# -- length -----------------------------------------------------------------------------------------------


def lengths(*values: float, spread: float = 0.02) -> list[Any]:
    return [
        figure("mean_length_tokens", value, value * (1 - spread), value * (1 + spread), round=round)
        for round, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((50.0, 60.0), ["pass"]),
        ((50.0, 90.0), ["fail"]),  # in a round
        ((50.0, 70.0, 95.0), ["pass", "pass", "fail"]),  # slope 1.38 a round, total 1.9
        ((50.0, 60.0, 110.0), ["fail", "fail", "fail"]),
        ((50.0, 40.0, 30.0), ["pass", "pass", "pass"]),
    ],
)
def test_answers_may_grow_only_so_fast(means: tuple[float, ...], expected: list[str]) -> None:
    assert verdicts("length", measured(*lengths(*means), round=len(means) - 1)) == expected


def test_growth_within_noise_is_no_growth() -> None:
    assert verdicts("length", measured(*lengths(50.0, 80.0, spread=0.3))) == ["pass"]


def test_a_limit_that_is_off_is_not_decided_on() -> None:
    off = {"max_round": None, "max_total": None, "max_slope": None}
    assert verdicts("length", measured(*lengths(50.0, 500.0, 5000.0), round=2), **off) == []
    assert verdicts("length", measured(*lengths(50.0, 500.0, 5000.0), round=2), **off | {"max_total": 2}) == ["fail"]


@given(st.floats(1, 1e4), st.floats(0.5, 2), st.integers(3, 12))
def test_growth_finds_the_factor_of_a_geometric_series(first: float, factor: float, n: int) -> None:
    assert growth({t: first * factor**t for t in range(n)}) == pytest.approx(factor)


# -- the others -------------------------------------------------------------------------------------------


def test_displacement_alarm() -> None:
    assert verdicts("displacement", measured(figure("displacement_alarm", 1.0, split="train", n=0))) == ["fail"]
    assert verdicts("displacement", measured(figure("displacement_alarm", 0.0, split="train", n=0))) == ["pass"]
    assert verdicts("displacement", measured(figure("displacement_alarm", None, split="train"))) == ["not_applicable"]


@pytest.mark.parametrize(("paired", "verdict"), [(9, "fail"), (10, "pass"), (100, "pass"), (0, "not_applicable")])
def test_yield_counts_prompts_with_a_pair(paired: int, verdict: str) -> None:
    assert verdicts("yield", measured(yields={1: (paired, 100)})) == [verdict]


def rates(*values: float, half: float = 0.08) -> list[Any]:
    return [
        figure("pass_rate_strict", value, value - half, value + half, round=round) for round, value in enumerate(values)
    ]


def test_saturation_needs_its_rounds_and_sees_any_improvement() -> None:
    assert verdicts("saturation", measured(*rates(0.4, 0.5, 0.6), round=2)) == ["not_applicable"]
    flat = rates(0.50, 0.51, 0.49, 0.52)
    assert verdicts("saturation", measured(*flat, round=3)) == ["fail"]
    together = rates(0.30, 0.38, 0.46, 0.54)  # each step within noise, all three beyond it
    assert verdicts("saturation", measured(*together, round=3)) == ["pass"]
    paired = figure("pass_rate_delta_vs_previous", 0.03, 0.01, 0.05, round=2)
    assert verdicts("saturation", measured(*flat, paired, round=3)) == ["pass"]
    old = figure("pass_rate_delta_vs_previous", 0.03, 0.01, 0.05, round=1)
    assert verdicts("saturation", measured(*flat, *rates(0, 0, 0, 0, 0.5)[4:], old, round=4)) == ["fail"]


def test_a_figure_of_ones_own() -> None:
    data = measured(figure("win_rate_vs_previous", 0.5, 0.4, 0.6))
    name = {"metric": "win_rate_vs_previous"}
    assert verdicts("figure", data, **name, min=0.45) == ["pass"]
    assert verdicts("figure", data, **name, min=0.45, bound="low") == ["fail"]
    assert verdicts("figure", data, **name, min=0.45, max=0.55, bound="high") == ["pass", "fail"]
    with pytest.raises(ValueError, match="needs min, max or both"):
        gate("figure", metric="x")


# -- intervals of derived figures -------------------------------------------------------------------------


def test_newcombes_example() -> None:
    # Newcombe 1998, table II (a): 56/70 - 48/80 with method 10 is 0.0524 to 0.3339.
    now, before = figure("x", 0.8, 0.6918, 0.8773), figure("x", 0.6, 0.4904, 0.7002)
    assert difference(now, before) == (
        pytest.approx(0.2),
        pytest.approx(0.0524, abs=3e-4),
        pytest.approx(0.3339, abs=3e-4),
    )


@given(st.floats(0.1, 1e3), st.floats(0.1, 1e3), st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_ratio_lies_in_its_interval_and_turns_over(a: float, b: float, noise_a: float, noise_b: float) -> None:
    now = figure("x", a, a * (1 - noise_a), a * (1 + noise_a))
    before = figure("x", b, b * (1 - noise_b), b * (1 + noise_b))
    value, low, high = ratio(now, before)
    back, back_low, back_high = ratio(before, now)
    assert low is not None and high is not None and back_low is not None and back_high is not None
    assert low < value < high
    assert (back * value, back_low * high, back_high * low) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))


def test_figures_without_intervals_have_none_of_their_ratio() -> None:
    assert ratio(figure("x", 3.0), figure("x", 2.0)) == (1.5, None, None)
    assert difference(figure("x", 3.0), figure("x", 2.0, 1.0, 3.0)) == (1.0, None, None)


# -- what follows -----------------------------------------------------------------------------------------


class Says:
    """A gate that says what it is told."""

    name = "says"

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = verdicts

    def decide(self, data: GateInput) -> list[Decision]:
        return [Decision("x", verdict, "because") for verdict in self.verdicts]


def settings(**values: Any) -> Any:
    return find("gate", "yield").load().Config(**values)


ACTIONS = ("continue", "ask", "stop", "roll_back")


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(["pass", "fail", "not_applicable"])), max_size=6))
def test_the_strongest_failed_action_follows(rules: list[tuple[str, str]]) -> None:
    gates: list[Any] = [(Says(verdict), settings(action=action)) for action, verdict in rules]
    failed = [action for action, verdict in rules if verdict == "fail"]
    found = strongest(rule_on(gates, measured(), can_roll_back=True))
    assert found == (max(failed, key=ACTIONS.index) if failed else None)


def test_what_cannot_be_rolled_back_is_stopped() -> None:
    rulings = rule_on([(Says("fail"), settings(action="roll_back"))], measured(), can_roll_back=False)
    assert strongest(rulings) == "stop"


def test_a_required_figure_that_is_missing_stops() -> None:
    (ruling,) = rule_on([(Says("not_applicable"), settings(required=True))], measured(), can_roll_back=True)
    assert (ruling.failed, ruling.action) == (True, "stop")
    assert "requires it" in ruling.decision.reason
    assert "gates.0.required" in ruling.decision.remedy


def test_a_rule_is_silent_before_its_first_round() -> None:
    (ruling,) = rule_on([(Says("fail"), settings(from_round=2, required=True))], measured(), can_roll_back=True)
    assert ruling.decision.verdict == "not_applicable"


# -- the config -------------------------------------------------------------------------------------------


def test_defaults_stop_a_judge_at_chance_and_roll_back_a_fall() -> None:
    gates = validate_config({"name": "x"}, "test").gates
    assert [(g.id, g.action) for g in gates] == [
        ("judge_accuracy", "stop"), ("pass_rate", "roll_back"), ("length", "continue"), ("displacement", "continue"),
    ]  # fmt: skip
    assert not any(g.required for g in gates)


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([{"id": "lenght"}], "did you mean 'length'"),
        ([{"id": "length", "max_rounds": 2}], "did you mean 'max_round'"),
        ([{"id": "length", "action": "halt"}], "gates.0"),
        ([{"id": "pass_rate", "from_round": 0}], "from_round"),
    ],
)
def test_a_typo_in_a_gate_is_named(gates: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(ConfigError, match="gates") as found:
        validate_config({"name": "x", "gates": gates}, "test")
    assert expected in str(found.value)


def test_long_numbers_are_shortened_for_people() -> None:
    (ruling,) = rule_on([(gate("length"), find("gate", "length").load().Config())],
                        measured(*lengths(50.0, 90.0)), can_roll_back=True)  # fmt: skip
    assert math.isclose(ruling.decision.value or 0, 1.8)
    assert in_words(ruling).startswith("gate length: mean_length_tokens ratio to M0 1.800 [1.7")
