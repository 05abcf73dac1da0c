"""From a table's row to a prompt, with the place of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign.errors import BadInput, PromptFileError
from selfalign.sources.records import prompt_of
from selfalign.sources.rows import Picked, record_of
from selfalign.sources.settings import TableSettings
from selfalign.types import Prompt


def prompt_of_row(
    row: Mapping[str, Any], picked: Picked, where: str, origin: str, settings: TableSettings
) -> Prompt | None:
    """The row's prompt; None where it has no text and ``settings`` skip such rows.

    Raises:
        PromptFileError: what is wrong, after ``where``.
    """
    try:
        record = record_of(row, picked)
        text = record["text"]
        if text is None or (isinstance(text, str) and not text.strip()):
            if settings.skip_empty:
                return None
            raise BadInput(
                f"column '{picked.columns['text']}' is empty; write the instruction, or set skip_empty: true to leave such "
                f"rows out"
            )
        if not isinstance(text, str):
            raise BadInput(f"column '{picked.columns['text']}' holds {type(text).__name__}, not text; name another one")
        return prompt_of(record, origin, settings.language)
    except BadInput as error:
        raise PromptFileError(f"{where}: {error}") from None
