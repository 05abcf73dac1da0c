"""What is to be exported, and how; every combination that makes no sense is refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from selfalign.decontamination.settings import Settings as Decontamination
from selfalign.errors import BadInput
from selfalign.export.columns import Kind, Style

Format = Literal["parquet", "jsonl", "hf"]
#: honour: flipped pairs exchanged, rejected ones left out; ignore: as the judge made them; only: no others than reviewed ones.
Reviews = Literal["honour", "ignore", "only"]

#: Kind -> what its rows may be made of; the first one by default, of sft all.
SOURCES: Mapping[Kind, tuple[str, ...]] = {
    "pairs": ("answers", "judgements"),
    "unary": ("labels", "pairs"),
    "sft": ("chosen", "demonstrations", "lessons"),
    "judgements": ("votes",),
}
#: Kind -> the source that is made of pairs of answers, which people review.
REVIEWED: Mapping[str, str] = {"pairs": "answers", "unary": "pairs", "sft": "chosen"}


@dataclass(frozen=True)
class Request:
    """A checked export.

    ``rounds`` None: all. ``test_share`` of the prompts goes into a split ``test``. ``benchmarks`` are files whose
    items must not be in the data; ``benchmark_column`` names their texts' column. ``licence`` and ``prompt_licence`` are what the user says of the data and its prompts.
    ``reviews``: what is done about what people said of pairs; ``review_notes``: with their names and notes as columns.
    """

    kind: Kind
    output: Path
    format: Format = "parquet"
    style: Style = "standard"
    sources: tuple[str, ...] = ()
    rounds: tuple[int, ...] | None = None
    branch: str | None = None
    bare: bool = False
    only_complete: bool = False
    reviews: Reviews = "honour"
    review_notes: bool = False
    test_share: float = 0.0
    benchmarks: tuple[Path, ...] = ()
    benchmark_column: str | None = None
    decontamination: Decontamination = field(default_factory=Decontamination)
    licence: str | None = None
    prompt_licence: str | None = None

    @property
    def one_file(self) -> bool:
        """Whether the output is a file rather than a folder."""
        return self.output.suffix.lower() in (".parquet", ".jsonl")


def checked(request: Request) -> Request:
    """``request`` with its defaults filled in.

    Raises:
        BadInput: parts of it contradict one another.
    """
    for name, value, known in (
        ("WHAT", request.kind, get_args(Kind)), ("--format", request.format, get_args(Format)),
        ("--style", request.style, get_args(Style)), ("--reviews", request.reviews, get_args(Reviews)),
    ):  # fmt: skip
        if value not in known:
            raise BadInput(f"{name} {value}: unknown; known: {', '.join(known)}")
    known_sources = SOURCES[request.kind]
    if unknown := [source for source in request.sources if source not in known_sources]:
        raise BadInput(
            f"--source {unknown[0]}: {request.kind} are made of {', '.join(known_sources)}; name one of these"
        )
    if request.style == "messages" and request.kind != "sft":
        raise BadInput(
            f"--style messages is one conversation a row, which only sft has; for {request.kind} use conversational"
        )
    if request.one_file and request.output.suffix.lower() != f".{request.format}":
        raise BadInput(
            f"--output {request.output}: the name says another format than --format {request.format}; make them one"
        )
    if request.one_file and request.test_share:
        raise BadInput(f"--output {request.output}: two splits are two files; name a folder, or leave --split out")
    _check_reviews(request)
    default = known_sources if request.kind == "sft" else known_sources[:1]
    if request.reviews == "only":
        default = (REVIEWED[request.kind],)
    return Request(**{**vars(request), "sources": request.sources or default})


def _check_reviews(request: Request) -> None:
    reviewed = REVIEWED.get(request.kind)
    if request.reviews == "only" and (reviewed is None or set(request.sources) - {reviewed}):
        what = request.kind if reviewed is None else f"--source {(set(request.sources) - {reviewed}).pop()}"
        instead = "export pairs" if reviewed is None else f"of {request.kind} name --source {reviewed}"
        raise BadInput(f"--reviews only: people review pairs of answers, and {what} has none; {instead}")
    if request.review_notes and (request.bare or reviewed is None or request.reviews == "ignore"):
        against = "--bare" if request.bare else request.kind if reviewed is None else "--reviews ignore"
        raise BadInput(f"--review-notes adds columns of reviews, and {against} has none; leave one of them out")


def parse_rounds(text: str) -> tuple[int, ...] | None:
    """Rounds of ``all``, ``2``, ``1,3`` or ``1-3,5``; None for all.

    Raises:
        BadInput: it is none of these.
    """
    if text == "all":
        return None
    found: set[int] = set()
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if numbers is None or int(numbers[2] or numbers[1]) < int(numbers[1]):
            raise BadInput(f"--rounds {text}: write all, 2, 1,3 or 1-3")
        found.update(range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1))
    return tuple(sorted(found))
