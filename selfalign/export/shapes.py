"""Texts as TRL's formats have them: plain strings, or lists of messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from selfalign.export.columns import MESSAGES, TEXTS, VALUES, Kind, Style

Turns = Sequence[Mapping[str, str]]


def shaped(
    batch: pa.RecordBatch, kind: Kind, style: Style, system_prompt: str | None, provenance: Iterable[str]
) -> pa.RecordBatch:
    """A batch of the query as a batch of the export: TRL's columns first, then those of ``provenance``."""
    names = [*VALUES[kind], *provenance]
    shown = zip(batch["prompt"].to_pylist(), batch["conversation"].to_pylist(), strict=True)
    prompts = [turns(instruction, conversation, system_prompt) for instruction, conversation in shown]
    answers = {name: batch[name].to_pylist() for name in TEXTS[kind] if name != "prompt"}
    if style == "standard":
        columns: dict[str, pa.Array] = {"prompt": pa.array(map(plain, prompts), pa.string())}
        columns |= {name: pa.array(texts, pa.string()) for name, texts in answers.items()}
    elif style == "conversational":
        columns = {"prompt": pa.array(prompts, MESSAGES)}
        columns |= {name: pa.array([[_answer(text)] for text in texts], MESSAGES) for name, texts in answers.items()}
    else:
        (texts,) = answers.values()
        whole = [[*prompt, _answer(text)] for prompt, text in zip(prompts, texts, strict=True)]
        columns = {"messages": pa.array(whole, MESSAGES)}
    columns |= {name: batch[name] for name in names}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def turns(instruction: str | None, conversation: str | None, system_prompt: str | None) -> Turns:
    """What the model was shown: ``conversation`` (JSON) where there is one, else the instruction after the system prompt."""
    if conversation is not None:
        found: Turns = json.loads(conversation)
        return found
    user = {"role": "user", "content": instruction or ""}
    return [{"role": "system", "content": system_prompt}, user] if system_prompt else [user]


def plain(conversation: Turns) -> str:
    """The texts of a conversation alone, a blank line between two of them."""
    return "\n\n".join(turn["content"] for turn in conversation)


def _answer(text: str) -> Mapping[str, str]:
    return {"role": "assistant", "content": text}
