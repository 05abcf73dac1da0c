"""Plain text that no round trains on: how likely a model still finds it tells what training made it forget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.errors import PromptFileError
from selfalign.evaluation.statistics import Interval, Paired, mean_interval, paired_difference


@dataclass(frozen=True)
class Paragraph:
    """``key`` is unique in its file."""

    key: str
    language: str
    text: str


def load_paragraphs(path: Path) -> list[Paragraph]:
    """One JSON object a line: {"key": ..., "language": ..., "text": ...}.

    Raises:
        PromptFileError: the first thing that is wrong, as file:line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    found: dict[str, Paragraph] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            paragraph = Paragraph(data["key"], data["language"], data["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise PromptFileError(f"{path}:{number}: needs key, language and text as a JSON object: {error}") from None
        if not paragraph.text.strip() or paragraph.key in found:
            raise PromptFileError(f"{path}:{number}: {paragraph.key!r} is empty or there twice; give each its own key")
        found[paragraph.key] = paragraph
    return list(found.values())


def likelihood(nll: Mapping[str, float]) -> Interval:
    """Mean over paragraphs (key -> mean nats a token) with Student's t; ``n`` counts paragraphs."""
    return mean_interval([nll[key] for key in sorted(nll)])


def forgotten(before: Mapping[str, float], after: Mapping[str, float], seed: int) -> Paired:
    """after - before over the paragraphs that both have; above 0 the text became less likely."""
    common: Sequence[str] = sorted(before.keys() & after.keys())
    return paired_difference([before[key] for key in common], [after[key] for key in common], seed)
