from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import KeepSettings
from selfalign.disk.policy import Change, Held, decide


def keep(**values: Any) -> KeepSettings:
    return KeepSettings.model_validate(values)


def held(*forms: str, adapter: bool = False, values: tuple[float | None, ...] = ()) -> list[Held]:
    return [
        Held(round, form, adapter, values[round - 1] if values else None)  # type: ignore[arg-type]
        for round, form in enumerate(forms, start=1)
    ]


def changes(settings: KeepSettings, rows: list[Held], *needed: int) -> dict[int, str]:
    return {change.round: change.form for change in decide(settings, rows, dict.fromkeys(needed, "needed"))}


FULL = ("full",) * 4


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"checkpoints": "last", "last": 1}, {1: "removed", 2: "removed", 3: "removed"}),
        ({"checkpoints": "last", "last": 3}, {1: "removed"}),
        ({"checkpoints": "last", "last": 2, "as": "bitdelta"}, {1: "removed", 2: "removed", 3: "bitdelta"}),
        ({"as": "bitdelta"}, {1: "bitdelta", 2: "bitdelta", 3: "bitdelta"}),
        ({"as": "adapter"}, {}),
    ],
)
def test_what_is_kept_of_four_rounds(settings: dict[str, Any], expected: dict[int, str]) -> None:
    assert changes(keep(**settings), held(*FULL), 4) == expected


def test_the_best_rounds_stay_and_the_newest_whatever_it_scored() -> None:
    rows = held(*FULL, values=(0.3, 0.9, 0.5, 0.1))
    assert changes(keep(checkpoints="best", best=1), rows, 4) == {1: "removed", 3: "removed"}
    assert changes(keep(checkpoints="best", best=2), rows, 4) == {1: "removed"}


def test_a_round_that_was_not_measured_is_not_among_the_best() -> None:
    rows = held(*FULL, values=(None, 0.2, None, None))
    assert changes(keep(checkpoints="best", best=2), rows, 4) == {1: "removed", 3: "removed"}


def test_needed_rounds_are_never_touched() -> None:
    assert changes(keep(checkpoints="last"), held(*FULL), 2, 4) == {1: "removed", 3: "removed"}


def test_the_change_names_the_setting() -> None:
    assert decide(keep(checkpoints="last"), held("full", "full"), {2: ""}) == [Change(1, "removed", "keep.last=1")]


def test_adapters_form_a_chain_that_is_not_broken() -> None:
    rows = held(*FULL, adapter=True)
    assert changes(keep(**{"as": "adapter"}), rows, 4) == {1: "adapter", 2: "adapter", 3: "adapter"}
    # M3 is kept as an adapter, so what it is rebuilt from stays too, though last=2 alone would remove it.
    both = keep(checkpoints="last", last=2, **{"as": "adapter"})
    assert changes(both, rows, 4) == {1: "adapter", 2: "adapter", 3: "adapter"}
    # A whole checkpoint in between ends the chain.
    assert changes(both, rows, 2, 4) == {1: "removed", 3: "adapter"}


def test_an_adapter_whose_parent_is_gone_stays_whole() -> None:
    assert changes(keep(**{"as": "adapter"}), held("removed", "full", "full", adapter=True), 3) == {}


def test_adapters_on_one_base_do_not_need_one_another() -> None:
    rows = [Held(n, "full", True, base=0) for n in range(1, 5)]
    both = keep(checkpoints="last", last=2, **{"as": "adapter"})
    assert changes(both, rows, 4) == {1: "removed", 2: "removed", 3: "adapter"}
    on_m2 = [*rows[:2], Held(3, "full", True, base=2), Held(4, "full", True, base=2)]
    assert changes(keep(checkpoints="last", **{"as": "adapter"}), [*on_m2, Held(5, "full")], 4, 5)[2] == "removed"
    assert changes(both, [*on_m2, Held(5, "full")], 5) == {1: "removed", 2: "adapter", 3: "removed", 4: "adapter"}


def test_what_was_reduced_goes_only_further_down() -> None:
    assert changes(keep(), held("bitdelta", "removed", "full"), 3) == {}
    assert changes(keep(checkpoints="last"), held("bitdelta", "removed", "full"), 3) == {1: "removed"}


@given(
    forms=st.lists(
        st.tuples(st.sampled_from(["full", "adapter", "bitdelta", "removed", "approximate"]), st.booleans()), max_size=7
    ),
    settings=st.fixed_dictionaries(
        {
            "checkpoints": st.sampled_from(["all", "last", "best"]),
            "last": st.integers(1, 4),
            "best": st.integers(1, 4),
            "as": st.sampled_from(["full", "adapter", "bitdelta"]),
        }
    ),
    values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=7, max_size=7),
    points=st.sets(st.integers(1, 7)),
    bases=st.lists(st.none() | st.integers(0, 6), min_size=7, max_size=7),
)
def test_whatever_is_set_no_adapter_loses_its_parent_and_deciding_again_changes_nothing(
    forms: list[tuple[str, bool]],
    settings: dict[str, Any],
    values: list[float | None],
    points: set[int],
    bases: list[int | None],
) -> None:
    on = [base if base is not None and base <= n else None for n, base in enumerate(bases)]
    rows = [Held(n, form, adapter, values[n - 1], on[n - 1]) for n, (form, adapter) in enumerate(forms, start=1)]  # type: ignore[arg-type]
    built_on = {row.round: row.built_on for row in rows}
    needed = dict.fromkeys({*points, len(rows)}, "needed")

    def rebuildable(state: dict[int, str], round: int) -> bool:
        return (
            round == 0 or state[round] == "full"
            or (state[round] == "adapter" and rebuildable(state, built_on[round]))
        )  # fmt: skip

    before: dict[int, str] = {row.round: row.form for row in rows}
    made = {change.round: change.form for change in decide(keep(**settings), rows, needed)}
    after = {**before, **made}
    assert not made.keys() & needed.keys()
    for round, form in after.items():
        if form == "adapter":
            assert rebuildable(after, round) or not rebuildable(before, round)
    again = [Held(row.round, after[row.round], row.adapter, row.value, row.base) for row in rows]  # type: ignore[arg-type]
    assert decide(keep(**settings), again, needed) == []
