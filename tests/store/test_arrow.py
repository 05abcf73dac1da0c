from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfalign.store.arrow import from_table, to_table
from selfalign.store.store import Store
from selfalign.types import TABLES, Candidate
from tests.store.rows import candidate, prompt

_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(_VALUES[get_args(hint)[0]], max_size=4).map(tuple)
    if get_args(hint):
        return st.one_of([strategy(member) for member in get_args(hint)])
    return _VALUES[hint]


def rows_of(kind: type) -> st.SearchStrategy[list[Any]]:
    hints = get_type_hints(kind)
    return st.lists(st.builds(kind, **{f.name: strategy(hints[f.name]) for f in fields(kind)}), max_size=5)


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_come_back_from_arrow(kind: type, data: st.DataObject) -> None:
    rows = data.draw(rows_of(kind))
    assert from_table(kind, to_table(rows, kind)) == rows


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(Path(tmp_path_factory.mktemp("store")) / "store.duckdb")
    store.create()
    yield store


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(), ids=st.lists(st.integers(0, 2**31 - 1)), number=st.floats(allow_nan=False),
    seed=st.integers(0, 2**63 - 1), parent=st.none() | st.text(), names=st.lists(st.text()),
)  # fmt: skip
def test_rows_come_back_from_duckdb(
    shared_store: Store, text: str, ids: list[int], number: float, seed: int, parent: str | None, names: list[str]
) -> None:
    one = candidate("c", text=text, token_ids=tuple(ids), logprob=number, seed=seed)
    other = prompt("p", text=text, parent_id=parent, rouge_max=number, instruction_id_list=tuple(names))
    with shared_store.write() as transaction:
        transaction.execute("DELETE FROM candidates")
        transaction.execute("DELETE FROM prompts")
        transaction.insert([one, other])
    assert shared_store.rows(Candidate) == [one]
    assert shared_store.rows(type(other)) == [other]


def test_floats_keep_their_bits(store: Store) -> None:
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 1 / 3, -1e-17, math.pi, 2.0**-1074]
    store.insert([candidate(f"{i:02d}", logprob=number) for i, number in enumerate(numbers)])
    stored = [row.logprob for row in sorted(store.rows(Candidate), key=lambda row: row.candidate_id)]
    assert [struct.pack("<d", x) for x in stored] == [struct.pack("<d", x) for x in numbers]


def test_a_column_without_a_type_is_named() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Odd:
        thing: bytes

    with pytest.raises(TypeError, match=r"Odd\.thing"):
        to_table([Odd(b"")])


def test_rows_of_two_classes_are_refused() -> None:
    with pytest.raises(TypeError, match="one class"):
        to_table([prompt(), candidate()])
