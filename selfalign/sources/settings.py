"""What the settings of sources have in common."""

from __future__ import annotations

from pydantic import Field

from selfalign.config import Settings


class SourceSettings(Settings):
    """Of every source."""

    language: str | None = Field(
        None, min_length=1, description="of prompts that do not say it; null guesses it from the script"
    )
    limit: int | None = Field(None, ge=1, description="read only so many prompts, the first ones; null reads all")


class Columns(Settings):
    """A table's columns by what they are to us; what is not named is taken from the column of its own name."""

    text: str | None = Field(
        None, min_length=1, description="the instruction, or a conversation of which the first user turn is taken"
    )
    input: str | None = Field(
        None, min_length=1, description="what follows the instruction after an empty line, as in Alpaca's tables"
    )
    answer: str | None = Field(
        None, min_length=1, description="a good answer, or a conversation: what follows its first user turn"
    )
    language: str | None = Field(None, min_length=1, description="ISO 639-1 code of the instruction")
    category: str | None = Field(None, min_length=1, description="kind of task, for breakdowns")
    instruction_id_list: str | None = Field(None, min_length=1, description="names of checkable constraints")
    kwargs: str | None = Field(None, min_length=1, description="their arguments, one object each")


class TableSettings(SourceSettings):
    """Of sources that read tables."""

    columns: Columns = Field(default_factory=Columns, description="e.g. {text: question, answer: response}")
    skip_empty: bool = Field(False, description="leave rows without a text out instead of refusing them")
