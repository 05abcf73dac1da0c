"""The inbox of reviews: added to by many, torn by a power cut, written to by others."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.errors import BadInput, StageFailed
from selfalign.reviews import MAX_NOTE, Inbox, append, latest, make_review, parse, read
from selfalign.types import Review

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def review(pair_id: str = "p1", decision: Any = "flip", note: str = "", at: datetime = NOON) -> Review:
    return make_review(pair_id, 1, decision, note, "me", at)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    assert read(path) == Inbox(())
    said = [append(path, review("p1")), append(path, review("p2", "reject", 'a "note"\nof two lines \u2028 床'))]
    assert read(path).reviews == tuple(said)
    assert len(path.read_bytes().splitlines()) == 2, "one line a review, whatever is in its note"


def test_the_last_word_wins_also_where_the_clock_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    append(path, review("p1", "flip"))
    append(path, review("p1", "reject", at=NOON - timedelta(hours=1)))
    append(path, review("p2", "accept", at=NOON - timedelta(hours=1)))
    assert {one: said.decision for one, said in latest(read(path).reviews).items()} == {"p1": "reject", "p2": "accept"}
    append(path, review("p1", "withdraw"))
    assert set(latest(read(path).reviews)) == {"p2"}


def test_a_torn_last_line_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    first = append(path, review("p1"))
    append(path, review("p2"))
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:cut])
        last = append(path, review("p3"))
        found = read(path)
        assert last in found.reviews and first in found.reviews
        assert found.unreadable == ((2,) if cut < len(whole) - 1 else ())


@pytest.mark.parametrize(
    "line",
    ["null", "[]", "{}", "{", '"x"', "[" * 5000, "\x00", json.dumps({"pair_id": "p"})]
    + [
        json.dumps({"pair_id": "p1", "round": 1, "decision": "flip", "note": "", "reviewer": "me",
                    "reviewed_at": "2026-05-01T12:00:00.000000+00:00"} | wrong)
        for wrong in (
            {"pair_id": ""}, {"pair_id": "../x y"}, {"pair_id": 7}, {"round": "1"}, {"round": True}, {"round": -1},
            {"decision": "drop"}, {"decision": ["flip"]}, {"note": None}, {"note": "x" * (MAX_NOTE + 1)},
            {"note": "\ud800"}, {"reviewer": 3}, {"reviewed_at": "yesterday"}, {"reviewed_at": None},
            {"reviewed_at": "2026-05-01T12:00:00+02:00"},
        )
    ],
)  # fmt: skip
def test_what_is_no_review_is_passed_over_and_counted(line: str) -> None:
    good = json.dumps({"pair_id": "p1", "round": 1, "decision": "flip", "note": "", "reviewer": "me",
                       "reviewed_at": "2026-05-01T12:00:00.000000+00:00"})  # fmt: skip
    found = parse(f"{good}\n{line}\n{good}\n")
    assert found.unreadable == (2,)
    assert [one.pair_id for one in found.reviews] == ["p1"], "a line that is there twice is one review"


@given(st.text(max_size=300))
def test_any_text_is_an_inbox(text: str) -> None:
    found = parse(text)
    assert not found.reviews and len(found.unreadable) == sum(bool(line.strip()) for line in text.split("\n"))


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=200))
def test_a_note_comes_back_as_it_was(note: str) -> None:
    said = review(note=note)
    line = json.dumps(
        {key: getattr(said, key) for key in ("pair_id", "round", "decision", "note", "reviewer", "reviewed_at")}
    )
    assert parse(line).reviews == (said,)


def test_what_cannot_be_a_review_is_refused() -> None:
    for wrong in ({"pair_id": "a b"}, {"decision": "perhaps"}, {"note": "x" * (MAX_NOTE + 1)}, {"note": "\udfff"}):
        with pytest.raises(BadInput):
            review(**wrong)


def test_a_folder_in_its_place_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="not kept"):
        append(tmp_path, review())
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path)


def _add(path: Path, name: str) -> None:
    for number in range(20):
        append(path, review(f"{name}{number}"))


def test_several_processes_append_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_add, args=(path, name)) for name in "abc"]
    for other in others:
        other.start()
    for other in others:
        other.join()
    found = read(path)
    assert not found.unreadable and len(found.reviews) == 60
    assert len({one.reviewed_at for one in found.reviews}) == 60, "each has its own place in the order"
