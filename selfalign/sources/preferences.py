"""Preference pairs that somebody else made: files in TRL's formats, read, and refused row by row where they teach nothing.

JSON lines, Parquet, or a folder of ``datasets.save_to_disk``, with ``chosen``, ``rejected`` and ``prompt``: strings, or
lists of messages, of which the prompt's is one user turn. Without ``prompt`` it is what the two conversations begin with.
``chosen_score`` and ``rejected_score`` (or ``score_chosen``, ``score_rejected``) are optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import PromptFileError
from selfalign.sources.rouge import rouge_l, words

#: What ``weights_hash`` of an imported answer begins with: nobody knows who wrote it. The file's name follows.
IMPORTED = "imported:"
#: Its ``engine`` and ``origin``, and the judge and builder of its pair.
NAME = "imported"
#: ROUGE-L F from which two answers say the same.
_SAME = 0.97
_SCORES = (("chosen_score", "rejected_score"), ("score_chosen", "score_rejected"))


@dataclass(frozen=True)
class Preference:
    """A usable row; ``place`` is its line or row, from 1. Scores are both there or both None."""

    place: int
    prompt: str
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None


def find_path(path: str, base: Path) -> Path:
    """A file, or a folder of ``save_to_disk``, under ``base``.

    Raises:
        PromptFileError: there is none.
    """
    found = base / path
    if not found.exists():
        raise PromptFileError(f"{found}: no such file or folder of preferences; check the path")
    return found


class Unusable(Exception):
    """Why a row is refused, in one word."""


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(place, row) of a file or folder.

    Raises:
        PromptFileError: it cannot be read.
    """
    try:
        if path.is_dir():
            yield from enumerate(_saved_to_disk(path), start=1)
        elif path.suffix.lower() == ".parquet":
            yield from enumerate(_parquet(path), start=1)
        else:
            yield from _json_lines(path)
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise PromptFileError(f"{path}: is not UTF-8 text; save it as UTF-8") from None


def usable(place: int, row: Any, system_prompt: str | None) -> Preference:
    """The row as a pair of texts.

    Raises:
        Unusable: with the reason.
    """
    if not isinstance(row, Mapping) or not {"chosen", "rejected"} <= row.keys():
        raise Unusable("not_a_pair")
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    found = Preference(
        place, _instruction(prompt, system_prompt), _answer(chosen), _answer(rejected), *_scores(row)
    )  # fmt: skip
    if not found.prompt.strip():
        raise Unusable("empty_prompt")
    if not found.chosen.strip() or not found.rejected.strip():
        raise Unusable("empty_answer")
    one, other = words(found.chosen), words(found.rejected)
    if found.chosen.strip() == found.rejected.strip() or (one and rouge_l(one, other) >= _SAME):
        raise Unusable("same_answers")
    if (
        found.chosen_score is not None
        and found.rejected_score is not None
        and not found.chosen_score > found.rejected_score
    ):
        raise Unusable("scores_contradict")
    return found


def _instruction(prompt: Any, system_prompt: str | None) -> str:
    if isinstance(prompt, str):
        return prompt
    turns = _turns(prompt)
    if turns and turns[0][0] == "system":
        # Another system prompt than the run's is another task.
        if turns[0][1] != (system_prompt or ""):
            raise Unusable("other_system_prompt")
        turns = turns[1:]
    if len(turns) != 1 or turns[0][0] != "user":
        raise Unusable("several_turns" if turns else "empty_prompt")
    return turns[0][1]


def _answer(value: Any) -> str:
    if isinstance(value, str):
        return value
    turns = _turns(value)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise Unusable("several_turns" if turns else "empty_answer")
    return turns[0][1]


def _turns(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise Unusable("not_a_pair")
    turns = [(turn.get("role"), turn.get("content")) for turn in value]
    if not all(isinstance(part, str) for turn in turns for part in turn):
        raise Unusable("not_a_pair")
    return turns


def _scores(row: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    for names in _SCORES:
        values = [row.get(name) for name in names]
        if all(
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 for value in values
        ):
            return float(values[0]), float(values[1])  # type: ignore[arg-type]
        if any(value is not None for value in values):
            raise Unusable("scores_contradict")
    return None, None


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as handle:
        for place, line in enumerate(handle, start=1):
            if line.strip():
                try:
                    yield place, json.loads(line)
                except (ValueError, RecursionError):
                    raise PromptFileError(f"{path}:{place}: not JSON; write one object a line") from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise PromptFileError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())[:120]})") from None


def _saved_to_disk(path: Path) -> Iterator[Any]:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise PromptFileError(f"{path}: no folder of save_to_disk ({' '.join(str(error).split())[:120]})") from None
    # Of several splits the training one: the others are somebody's measure.
    if isinstance(found, datasets.DatasetDict):
        if "train" not in found:
            raise PromptFileError(f"{path}: has no split 'train' (found: {', '.join(found)})")
        found = found["train"]
    yield from found
