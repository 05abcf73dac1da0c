"""What people say of pairs: an inbox in the workspace, ``reviews.jsonl``, that anybody may add to while a run is at work.

The store has one writer, the run; a person's word must not wait for it. So it becomes a line of a file, flushed to disk
before it is acknowledged, and the run takes the lines into its table ``reviews`` when it starts and before it trains
(stages/reviewed.py). The inbox is only ever added to. A line that a power cut left half is passed over, and the
next one begins on a line of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from selfalign.durable import sync
from selfalign.errors import BadInput, StageFailed
from selfalign.identity import content_id
from selfalign.store.store import Store
from selfalign.types import Review, ReviewDecision

#: Of a note and of a name; what is longer is no note.
MAX_NOTE, MAX_NAME = 4000, 200
_ID = re.compile(r"[0-9a-zA-Z_.:-]{1,128}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
_KEYS = ("pair_id", "round", "decision", "note", "reviewer", "reviewed_at")


@dataclass(frozen=True)
class Inbox:
    """The reviews of a file, oldest first, and the numbers of lines that are none."""

    reviews: tuple[Review, ...]
    unreadable: tuple[int, ...] = ()


def make_review(
    pair_id: str, round: int, decision: ReviewDecision, note: str, reviewer: str, reviewed_at: datetime
) -> Review:
    """A review as a row.

    Raises:
        BadInput: a part of it cannot be in one.
    """
    values: dict[str, Any] = {
        "pair_id": pair_id, "round": round, "decision": decision, "note": note, "reviewer": reviewer,
        "reviewed_at": reviewed_at.astimezone(UTC).isoformat(timespec="microseconds"),
    }  # fmt: skip
    if wrong := _wrong(values):
        raise BadInput(f"review of pair {pair_id!r}: {wrong}")
    return Review(content_id("review", *values.values()), **values)


def append(path: Path, review: Review) -> Review:
    """Add ``review`` to the inbox at ``path``, durably; returns it with the time that puts it last.

    A clock that was set back must not let an older word win: the time is at least that of the last line and a moment.

    Raises:
        StageFailed: the file cannot be written.
    """
    new = not path.exists()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            text = _content(descriptor)
            last = max((one.reviewed_at for one in parse(text).reviews), default="")
            if review.reviewed_at <= last:
                later = datetime.fromisoformat(last) + timedelta(microseconds=1)
                review = make_review(review.pair_id, review.round, review.decision, review.note, review.reviewer, later)
            line = json.dumps({key: value for key, value in asdict(review).items() if key in _KEYS}) + "\n"
            # A torn last line stays what it is; ours begins after it.
            os.write(descriptor, (line if not text or text.endswith("\n") else f"\n{line}").encode("utf-8"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync(path.parent)
    except OSError as error:
        raise StageFailed(f"{path}: cannot be written: {error.strerror or error}; the review is not kept") from None
    return review


def read(path: Path) -> Inbox:
    """The inbox at ``path``; empty where there is none.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return parse(path.read_bytes().decode("utf-8", "replace"))
    except FileNotFoundError:
        return Inbox(())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(text: str) -> Inbox:
    """Reviews in ``text``, one a line. Pure; what is no review is passed over and counted by line, from 1."""
    found: dict[str, Review] = {}
    unreadable = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        review = _review(line)
        if review is None:
            unreadable.append(number)
        else:
            found[review.review_id] = review
    return Inbox(tuple(sorted(found.values(), key=_order)), tuple(unreadable))


def latest(reviews: Iterable[Review]) -> Mapping[str, Review]:
    """The review that holds, by pair: the last one, where it was not withdrawn."""
    last = {review.pair_id: review for review in sorted(reviews, key=_order)}
    return {pair_id: review for pair_id, review in last.items() if review.decision != "withdraw"}


def standing(store: Store, inbox: Path) -> Mapping[str, Review]:
    """The review that holds at this moment, by pair: of those in ``store`` and in ``inbox``. Writes nothing.

    Raises:
        BadInput: the inbox cannot be read.
        StoreError: the store cannot.
    """
    return latest([*store.rows(Review), *read(inbox).reviews])


def _order(review: Review) -> tuple[str, str]:
    return review.reviewed_at, review.review_id


def _content(descriptor: int) -> str:
    parts = []
    position = 0
    while part := os.pread(descriptor, 1 << 20, position):
        parts.append(part)
        position += len(part)
    return b"".join(parts).decode("utf-8", "replace")


def _review(line: str) -> Review | None:
    try:
        found = json.loads(line)
        values = {key: found[key] for key in _KEYS}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if _wrong(values) else Review(content_id("review", *values.values()), **values)


def _wrong(values: Mapping[str, Any]) -> str | None:
    """What is wrong with the parts of a review, if anything is."""
    pair_id, round, decision, note, reviewer, at = (values[key] for key in _KEYS)
    if not isinstance(pair_id, str) or not _ID.fullmatch(pair_id):
        return "no pair has such an id"
    if type(round) is not int or not 0 <= round < 1 << 31:
        return "the round is no number of a round"
    if decision not in get_args(ReviewDecision):
        return f"decision {decision!r} is not one of {', '.join(get_args(ReviewDecision))}"
    for name, value, limit in (("note", note, MAX_NOTE), ("reviewer", reviewer, MAX_NAME)):
        if not isinstance(value, str) or len(value) > limit:
            return f"the {name} is longer than {limit} characters, or no text"
        if any(0xD800 <= ord(character) < 0xE000 for character in value):
            return f"the {name} is not valid Unicode"
    return None if isinstance(at, str) and _TIME.fullmatch(at) else "the time is not ISO 8601 in UTC"
