"""What a chat reply says, read without trusting its form. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Logarithms of probabilities are at most 0, but for rounding.
_LARGEST = 1e-3


@dataclass(frozen=True)
class TopToken:
    """A sampled token and the most probable ones at its place, as (text, natural log of the probability).

    ``log_prob`` is the sampled token's own; None where the server did not say.
    """

    text: str
    top: tuple[tuple[str, float], ...]
    log_prob: float | None = None


@dataclass(frozen=True)
class Answer:
    """``text`` is None where the reply has none; ``raw`` is the text, or the reply itself where there is none."""

    text: str | None
    raw: str
    finish_reason: str
    refused: bool
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens: tuple[TopToken, ...]


def read(body: Mapping[str, Any]) -> Answer:
    """The first choice of a chat completion; whatever is missing or of the wrong type reads as absent."""
    choices = body.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message, usage = _mapping(choice.get("message")), _mapping(body.get("usage"))
    text, refusal = _text(message.get("content")), message.get("refusal")
    refused = choice.get("finish_reason") == "content_filter" or (isinstance(refusal, str) and refusal != "")
    if text is None or (refused and not text):
        raw = _storable(refusal) if isinstance(refusal, str) and refusal else _storable(json.dumps(dict(body)))
    else:
        raw = text
    return Answer(
        text, raw, str(choice.get("finish_reason") or ""), refused, str(body.get("model") or ""),
        _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _tokens(choice.get("logprobs")),
    )  # fmt: skip


def choice_log_probs(token: TopToken, choices: Sequence[str]) -> list[float]:
    """Log-probability of each choice at this place; -inf where none of the tokens shown is that choice.

    Tokens count by their text without spaces round them ("4" and " 4" are the same answer).
    """
    found: dict[str, list[float]] = {choice: [] for choice in choices}
    for text, log_prob in token.top:
        if (name := text.strip()) in found:
            found[name].append(log_prob)
    return [_log_sum(values) for values in found.values()]


def token_at(tokens: Sequence[TopToken], text: str, position: int) -> TopToken | None:
    """The token that holds character ``position`` of ``text``; None where the tokens do not spell what follows it.

    Counted from the end: a character that is spread over several tokens is spelt in servers' own ways.
    """
    left = len(text) - position
    if not "".join(token.text for token in tokens).endswith(text[position:]):
        return None
    for token in reversed(tokens):
        left -= len(token.text)
        if left <= 0:
            return token
    return None


def _log_sum(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(value - top) for value in values))


def _tokens(logprobs: Any) -> tuple[TopToken, ...]:
    content = _mapping(logprobs).get("content")
    tokens = []
    for entry in content if isinstance(content, list) else []:
        shown = _mapping(entry)
        if not isinstance(shown.get("token"), str):
            return ()
        listed = shown.get("top_logprobs")
        top = [_mapping(candidate) for candidate in (listed if isinstance(listed, list) else [])]
        own = float(shown["logprob"]) if _is_top(shown) else None
        known = tuple((t["token"], float(t["logprob"])) for t in top if _is_top(t))
        tokens.append(TopToken(shown["token"], known, own))
    return tuple(tokens)


def _is_top(entry: Mapping[str, Any]) -> bool:
    value = entry.get("logprob")
    if not isinstance(entry.get("token"), str) or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value <= _LARGEST  # not a number is not


def _text(content: Any) -> str | None:
    """Some servers answer in parts."""
    if isinstance(content, list):
        parts = [_mapping(part).get("text") for part in content]
        return _storable("".join(part for part in parts if isinstance(part, str))) if parts else None
    return _storable(content) if isinstance(content, str) else None


def _storable(text: str) -> str:
    """JSON can spell half of a surrogate pair; no table can hold one."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
