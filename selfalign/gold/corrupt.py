"""Worse answers made from good ones: pure functions of a text and a random generator.

Each returns every variant that it can make, of different lengths where possible, so that the caller can keep
length from giving the answer away. None of them judges: a variant is worse by the way it was made.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

#: A word with what follows it up to the next, or one Chinese character.
_PIECE = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+\s*|\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def truncated(text: str, rng: random.Random) -> list[str]:
    """The text broken off inside a sentence, at places between two fifths of it and its end."""
    parts = pieces(text)
    cuts = [i for i in range(max(2, len(parts) * 2 // 5), len(parts)) if parts[i - 1].rstrip()[-1:].isalnum()]
    chosen = sorted(rng.sample(cuts, min(4, len(cuts))))
    return ["".join(parts[:cut]).rstrip() for cut in chosen]


def corrupted(text: str, rng: random.Random) -> list[str]:
    """Word salad: order lost, words missing, a stretch repeated over and over, and words swapped and doubled."""
    parts = [part.strip() for part in pieces(text) if part.strip()]
    if len(parts) < 4:
        return []
    shuffled = list(parts)
    while shuffled == parts:
        rng.shuffle(shuffled)
    # The last piece stays: what only lost its end would be a truncated text.
    dropped = set(rng.sample(range(len(parts) - 1), max(1, len(parts) // 3)))
    sparse = [part for place, part in enumerate(parts) if place not in dropped]
    start = rng.randrange(max(1, len(parts) // 3))
    loop = parts[start : start + rng.randint(2, 5)]
    short, long = (parts[: start + len(loop)] + loop * times for times in (3, rng.randint(6, 10)))
    doubled = [copy for part in shuffled for copy in [part] * rng.choice((1, 1, 2))]
    variants = [joined(variant) for variant in (shuffled, sparse, short, long, doubled)]
    return [variant for variant in dict.fromkeys(variants) if variant and not text.startswith(variant)]


def verbose(text: str, phrases: Callable[[str], Sequence[str]], rng: random.Random, language: str) -> list[str]:
    """The text among empty phrases, once lightly, once with the text's first sentence repeated, once heavily.

    ``phrases`` gives the phrases of a kind: opener, filler, closer.
    """
    opener, closer = rng.choice(phrases("opener")), rng.choice(phrases("closer"))
    fillers = rng.sample(list(phrases("filler")), min(2, len(phrases("filler"))))
    again = sentences(text)[0]
    glue = "" if language == "zh" else " "
    return [
        glue.join([opener, text]),
        glue.join([text, closer]),
        glue.join([opener, text, fillers[0], again]),
        glue.join([opener, text, *fillers, again, closer]),
    ]


def chained(heads: Sequence[str], tails: Sequence[str], rng: random.Random, language: str, most: int) -> list[str]:
    """One head with none, one ... ``most`` tails: empty answers, refusals and appeals to the judge of every length."""
    head = rng.choice(heads)
    rest = [tail for tail in tails if tail != head]
    chosen = rng.sample(rest, min(most, len(rest)))
    glue = "" if language == "zh" else " "
    return [glue.join([head, *chosen[:count]]) for count in range(len(chosen) + 1)]


def injected(
    text: str, phrases: Callable[[str], Sequence[str]], rng: random.Random, language: str, most: int = 3
) -> list[str]:
    """Appeals to the judge in place of an answer, alone or behind the answer's first few words."""
    appeals = chained(phrases("injected"), phrases("injected"), rng, language, most)
    parts = pieces(text)
    start = "".join(parts[: max(1, len(parts) // 4)]).rstrip()
    return [*appeals, *(f"{start}...\n\n{appeal}" for appeal in appeals)]


def violated(
    text: str, instruction_id: str, arguments: Mapping[str, Any], phrases: Callable[[str], Sequence[str]], rng: random.Random
) -> list[str]:  # fmt: skip
    """The text with one constraint broken and all else as it was; candidates only, to be checked by the caller."""
    breaker = _BREAKERS.get(instruction_id)
    return [] if breaker is None else [worse for worse in breaker(text, arguments, phrases, rng) if worse != text]


def pieces(text: str) -> list[str]:
    """Words with the space behind them, and single Chinese characters; joined they give the text."""
    return _PIECE.findall(text)


def joined(parts: Sequence[str]) -> str:
    """Words with one space between them, none beside Chinese."""
    out = list(parts[:1])
    for left, right in pairwise(parts):
        chinese = "\u3000" <= left[-1:] <= "\uffef" or "\u3000" <= right[:1] <= "\uffef"
        out.append(right if chinese else f" {right}")
    return "".join(out)


def sentences(text: str) -> list[str]:
    """Sentences and lines, without the spaces between them; never empty for a text with letters."""
    return [part.strip() for part in _SENTENCE.split(text) if part and part.strip()] or [text]


_Phrases = Callable[[str], Sequence[str]]
_Breaker = Callable[[str, Mapping[str, Any], _Phrases, random.Random], Iterator[str]]


def _sentence_case(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    lower = text.lower()
    yield re.sub(r"(^|[.!?]\s+)([a-z])", lambda found: found[1] + found[2].upper(), lower)
    yield f"{text} {rng.choice(phrases('closer'))}"


def _unquoted(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.replace('"', "")
    yield f"{rng.choice(phrases('opener'))} {text} {rng.choice(phrases('closer'))}"


def _untitled(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield re.sub(r"<<.*?>>\s*", "", text)
    yield re.sub(r"<<(.*?)>>", r"\1", text)
    yield rng.choice(phrases("opener")) + "\n" + text.replace("<<", "**").replace(">>", "**")


def _no_postscript(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    marker = str(arguments["postscript_marker"])
    yield text.split(marker)[0].rstrip()
    yield text.replace(marker, rng.choice(phrases("closer")))


def _no_end(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    phrase = str(arguments["end_phrase"])
    yield text.removesuffix(phrase).rstrip()
    yield f"{text}\n\n{rng.choice(phrases('closer'))}"


def _no_stars(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.replace("*", "")
    yield re.sub(r"\*(.*?)\*", r"__\1__", text)


def _no_brackets(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.replace("[", "").replace("]", "")
    yield text.replace("[", "<<").replace("]", ">>")


def _commas(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield re.sub(r" (and|but|so|because|then|or) ", r", \1 ", text)
    yield " ".join(re.sub(r" (and|but|so|because|then|or) ", r", \1 ", part) for part in sentences(text)[:-1])
    yield f"Well, as you asked, here it is. {text}"


def _other_length(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    if arguments["relation"] == "at least":
        parts = sentences(text)
        for count in range(1, len(parts)):
            yield " ".join(parts[:count])
    else:
        for count in range(1, 4):
            extra = rng.sample(list(phrases("filler")), min(count, len(phrases("filler"))))
            yield " ".join([text, *extra])


def _other_bullets(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    lines = text.split("\n")
    yield "\n".join(lines[:-1])
    yield "\n".join([*lines[:-2], f"{lines[-2]}; {lines[-1].removeprefix('* ')}"])
    yield "\n".join([*lines, f"* {rng.choice(phrases('closer'))}"])


def _merged(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    parts = [part.strip() for part in re.split(r"\*\*\*", text) if part.strip()]
    yield "\n".join(parts)
    yield "\n***\n".join([*parts, rng.choice(phrases("closer"))])


def _one_response(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    parts = [part.strip() for part in text.split("******")]
    yield parts[0]
    yield "\n".join(parts)
    yield f"\n\n{rng.choice(phrases('opener'))}\n\n".join(parts)


def _unmarked(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield re.sub(rf"{re.escape(str(arguments['section_spliter']))} \d+\n", "", text)
    yield re.sub(rf"{re.escape(str(arguments['section_spliter']))} (\d+)", r"Number \1 follows:", text)


def _one_paragraph(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.replace("\n\n", " ")
    yield f"{rng.choice(phrases('opener'))}\n\n{text}"


def _not_json(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.strip("{}").replace('"', "")
    yield f"{rng.choice(phrases('opener'))}\n{text}"


def _not_repeated(text: str, arguments: Mapping[str, Any], phrases: _Phrases, rng: random.Random) -> Iterator[str]:
    yield text.removeprefix(str(arguments["prompt_to_repeat"])).lstrip()
    yield f"{rng.choice(phrases('opener'))} {text}"


_BREAKERS: Mapping[str, _Breaker] = {
    "change_case:english_capital": _sentence_case,
    "change_case:english_lowercase": _sentence_case,
    "startend:quotation": _unquoted,
    "detectable_format:title": _untitled,
    "detectable_content:postscript": _no_postscript,
    "startend:end_checker": _no_end,
    "detectable_format:number_highlighted_sections": _no_stars,
    "detectable_content:number_placeholders": _no_brackets,
    "punctuation:no_comma": _commas,
    "length_constraints:number_words": _other_length,
    "detectable_format:number_bullet_lists": _other_bullets,
    "length_constraints:number_paragraphs": _merged,
    "combination:two_responses": _one_response,
    "detectable_format:multiple_sections": _unmarked,
    "length_constraints:nth_paragraph_first_word": _one_paragraph,
    "detectable_format:json_format": _not_json,
    "combination:repeat_prompt": _not_repeated,
}
