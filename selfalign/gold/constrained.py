"""Items with checked constraints from answers that carry none, as many as are wanted.

Two demands are drawn for a prompt, and its answer is rewritten once for each, so that either text is the better one
under its own demand and the worse one under the other's: no text is better by itself. Every item is checked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign import constraints
from selfalign.gold.answers import Answer
from selfalign.gold.corrupt import sentences
from selfalign.gold.items import GoldItem
from selfalign.identity import canonical, derive_seed
from selfalign.types import GoldSplit

#: Attempts at one item before the prompt is passed over; most fail where a demand does not suit the text.
_ATTEMPTS = 30


@dataclass(frozen=True)
class Demand:
    """A constraint in words, and ``rewrite``, which makes a text follow it (None where it cannot)."""

    instruction_id: str
    kwargs: Mapping[str, Any]
    words: str
    rewrite: Callable[[str], str | None]


#: (answers of the prompt, generator) -> a demand.
Maker = Callable[[Sequence[str], random.Random], Demand | None]


def constrained_items(answers: Sequence[Answer], split: GoldSplit, count: int, seed: int) -> list[GoldItem]:
    """``count`` items, two for each pair of demands, of the prompts in ``answers`` that have no constraint.

    Fewer where the prompts do not give so many; the same for the same arguments.
    """
    plain = [a for a in answers if not a.instruction_id_list and a.language in _MAKERS]
    order = sorted(plain, key=lambda a: derive_seed(seed, "constrained", a.key))
    found: list[GoldItem] = []
    seen: set[tuple[str, str]] = set()
    while order and len(found) < count:
        before = len(found)
        for answer in order:
            rng = random.Random(derive_seed(seed, "constrained", answer.key, len(found)))
            for item in _rivals(answer, split, rng):
                if len(found) < count and (item.prompt, item.better) not in seen:
                    seen.add((item.prompt, item.better))
                    found.append(item)
        if len(found) == before:
            break
    return found


def _rivals(answer: Answer, split: GoldSplit, rng: random.Random) -> Iterator[GoldItem]:
    makers = _MAKERS[answer.language]
    for _ in range(_ATTEMPTS):
        first = rng.choice(makers)
        # As often another number, word or phrase of the same demand: form alone then says nothing.
        second = first if rng.random() < 0.5 else rng.choice(makers)
        demands = [maker(answer.answers, rng) for maker in (first, second)]
        source = rng.choice(answer.answers)
        texts = [demand.rewrite(source) if demand else None for demand in demands]
        one, other = texts
        if one is None or other is None or one == other or demands[0] is None or demands[1] is None:
            continue
        if _tells_apart(demands[0], one, other) and _tells_apart(demands[1], other, one):
            yield _item(answer, split, demands[0], one, other, rng)
            yield _item(answer, split, demands[1], other, one, rng)
            return


def _tells_apart(demand: Demand, better: str, worse: str) -> bool:
    def follows(text: str) -> bool | None:
        result = constraints.check(text, (demand.instruction_id,), canonical([dict(demand.kwargs)]), "")
        return None if result.errors else all(result.strict)

    return follows(better) is True and follows(worse) is False


def _item(answer: Answer, split: GoldSplit, demand: Demand, better: str, worse: str, rng: random.Random) -> GoldItem:
    parts = [answer.prompt, demand.words]
    if rng.random() < 0.3:
        parts.reverse()
    return GoldItem(
        "", split, "constraint", answer.language, ("" if answer.language == "zh" else " ").join(parts), better, worse, "",
        (demand.instruction_id,), canonical([dict(demand.kwargs)]),
    )  # fmt: skip


# -- demands --------------------------------------------------------------------------------------


def _fixed(instruction_id: str, words: Sequence[str], rewrite: Callable[[str, random.Random], str | None]) -> Maker:
    """A demand without arguments."""

    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        drawn = random.Random(rng.random())
        return Demand(instruction_id, {}, rng.choice(words), lambda text: rewrite(text, drawn))

    return make


def _capitals(text: str, rng: random.Random) -> str | None:
    return text.upper()


def _small(text: str, rng: random.Random) -> str | None:
    return text.lower()


def _quoted(text: str, rng: random.Random) -> str | None:
    return None if '"' in text else f'"{text}"'


def _without_commas(text: str, rng: random.Random) -> str | None:
    return re.sub(r"\s*[,，]\s*", " " if text.isascii() else "；", text)


def _with_commas(text: str, rng: random.Random) -> str | None:
    return text if "," in text or "，" in text else None


def _titled(text: str, rng: random.Random) -> str | None:
    words = re.findall(r"[^\W\d_]{4,}", text) if text.isascii() else re.findall(r"[\u4e00-\u9fff]{2,4}", text)
    if not words:
        return None
    title = " ".join(word.capitalize() for word in rng.sample(words, min(len(words), rng.randint(1, 3))))
    return f"<<{title}>>\n{text}"


def _numbered(
    instruction_id: str, argument: str, numbers: Sequence[int], words: Sequence[str], rewrite: Callable[[str, int], str | None]
) -> Maker:  # fmt: skip
    """A demand for a number of parts; ``{n}`` in the words is that number."""

    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        n = rng.choice(numbers)
        return Demand(instruction_id, {argument: n}, rng.choice(words).format(n=n), lambda text: rewrite(text, n))

    return make


def _in_bullets(text: str, n: int) -> str | None:
    parts = _parts(text, n)
    return None if parts is None else "\n".join(f"* {part}" for part in parts)


def _in_paragraphs(text: str, n: int) -> str | None:
    parts = _parts(text, n)
    return None if parts is None else "\n***\n".join(parts)


def _with_stars(text: str, n: int) -> str | None:
    return _marked(text, n, "*{}*")


def _with_gaps(text: str, n: int) -> str | None:
    return _marked(text, n, "[{}]")


def _marked(text: str, n: int, form: str) -> str | None:
    """``n`` words of ``text``, spread over it, in ``form``."""
    spans = [m.span() for m in re.finditer(r"[A-Za-z]{4,}" if text.isascii() else r"[\u4e00-\u9fff]{2}", text)]
    if len(spans) < n or "*" in text or "[" in text:
        return None
    for begin, end in reversed(spans[:: max(1, len(spans) // n)][:n]):
        text = text[:begin] + form.format(text[begin:end]) + text[end:]
    return text


def _parts(text: str, n: int) -> list[str] | None:
    """``text`` in ``n`` parts, cut at sentences, else at clauses."""
    for pieces in (sentences(text), [p.strip() for p in re.split(r"(?<=[.,;!?。，；！？])\s*", text) if p.strip()]):
        if len(pieces) >= n:
            size, more = divmod(len(pieces), n)
            glue = " " if text.isascii() else ""
            ends = [size * (i + 1) + min(i + 1, more) for i in range(n)]
            return [glue.join(pieces[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    return None


def _sections(splitters: Sequence[str], words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        n, name = rng.choice((2, 3)), rng.choice(splitters)

        def rewrite(text: str) -> str | None:
            parts = _parts(text, n)
            return None if parts is None else "\n".join(f"{name} {i}\n{part}" for i, part in enumerate(parts, start=1))

        arguments = {"num_sections": n, "section_spliter": name}
        return Demand(
            "detectable_format:multiple_sections", arguments, rng.choice(words).format(n=n, name=name), rewrite
        )

    return make


def _ending(phrases: Sequence[str], words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        phrase = rng.choice(phrases)
        glue = " " if phrase.isascii() else ""
        return Demand(
            "startend:end_checker", {"end_phrase": phrase}, rng.choice(words).format(phrase=phrase),
            lambda text: f"{text}{glue}{phrase}",
        )  # fmt: skip

    return make


def _postscript(additions: Sequence[str], words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        addition = rng.choice(additions)
        return Demand(
            "detectable_content:postscript", {"postscript_marker": "P.S."}, rng.choice(words),
            lambda text: f"{text}\n\nP.S. {addition}",
        )  # fmt: skip

    return make


def _word_of(answers: Sequence[str], rng: random.Random) -> str | None:
    found = sorted(set(re.findall(r"\b[a-z]{5,}\b", " ".join(answers))))
    return rng.choice(found) if found else None


def _mentioned(words: Sequence[str]) -> Maker:
    """A word of one of the answers; where the text lacks it, that text cannot be made to follow."""

    def make(answers: Sequence[str], rng: random.Random) -> Demand | None:
        word = _word_of(answers, rng)
        return word and Demand(  # type: ignore[return-value]
            "keywords:existence", {"keywords": [word]}, rng.choice(words).format(word=word),
            lambda text: text if word in text else next((a for a in answers if word in a), None),
        )  # fmt: skip

    return make


def _avoided(words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand | None:
        word = _word_of(answers, rng)
        return word and Demand(  # type: ignore[return-value]
            "keywords:forbidden_words", {"forbidden_words": [word]}, rng.choice(words).format(word=word),
            lambda text: text if word not in text.lower() else next((a for a in answers if word not in a.lower()), None),
        )  # fmt: skip

    return make


def _words(relation: str, words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        counts = sorted(len(answer.split()) for answer in answers)
        n = max(5, (counts[0] + counts[-1]) // 2 // 5 * 5)
        pick = max if relation == "at least" else min
        return Demand(
            "length_constraints:number_words", {"num_words": n, "relation": relation}, rng.choice(words).format(n=n),
            lambda text: pick(answers, key=lambda a: len(a.split())),
        )  # fmt: skip

    return make


def _two_versions(words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand | None:
        if len(answers) < 2:
            return None
        return Demand(
            "combination:two_responses", {}, rng.choice(words), lambda text: f"{answers[1]}\n******\n{answers[0]}"
        )

    return make


def _opening_paragraph(openers: Sequence[str], words: Sequence[str]) -> Maker:
    def make(answers: Sequence[str], rng: random.Random) -> Demand:
        opener = rng.choice(openers)

        def rewrite(text: str) -> str | None:
            parts = _parts(text, 2)
            return (
                None if parts is None else f"{parts[0]}\n\n{opener.capitalize()}, {parts[1][:1].lower()}{parts[1][1:]}"
            )

        arguments = {"first_word": opener, "nth_paragraph": 2, "num_paragraphs": 2}
        return Demand(
            "length_constraints:nth_paragraph_first_word", arguments, rng.choice(words).format(word=opener), rewrite
        )

    return make


_MAKERS: Mapping[str, Sequence[Maker]] = {
    "en": (
        _fixed("change_case:english_capital", ("Write in capital letters only.", "Every letter must be a capital.", "ALL CAPS, please: no small letters."), _capitals),
        _fixed("change_case:english_lowercase", ("Write in small letters only.", "No capital letters anywhere.", "Keep everything in lowercase."), _small),
        _fixed("startend:quotation", ("Put the entire answer between double quotation marks.", "Your answer has to start and finish with a double quote.", "Enclose all of it in quotes."), _quoted),
        _fixed("punctuation:no_comma", ("Use no commas.", "Commas are not allowed.", "Write it without any comma."), _without_commas),
        _fixed("detectable_format:title", ("Give it a title in double angle brackets, like <<title>>.", "Put a title such as <<My Answer>> above it.", "It needs a heading wrapped in << and >>."), _titled),
        _numbered("detectable_format:number_bullet_lists", "num_bullets", (2, 3, 4), ("Use exactly {n} bullet points, each starting with \"* \".", "Make a list of {n} points that begin with \"* \".", "I want {n} bullets (\"* \"), no more and no fewer."), _in_bullets),
        _numbered("length_constraints:number_paragraphs", "num_paragraphs", (2, 3), ("Write {n} paragraphs separated by ***.", "There must be {n} paragraphs with *** between them."), _in_paragraphs),
        _numbered("detectable_format:number_highlighted_sections", "num_highlights", (1, 2, 3), ("Highlight at least {n} word(s) with stars, like *this*.", "Mark {n} or more passages with *asterisks*."), _with_stars),
        _numbered("detectable_content:number_placeholders", "num_placeholders", (1, 2, 3), ("Put at least {n} placeholder(s) in square brackets, such as [name].", "Leave {n} or more blanks in brackets like [date] for me to fill in."), _with_gaps),
        _sections(("Part", "Section", "Step", "Point"), ("Divide it into {n} sections that begin with {name} 1 and so on.", "Write {n} sections, headed {name} 1 up to {name} {n}.")),
        _ending(("That is all I know.", "I hope that is clear.", "Ask me again any time.", "Now you know.", "Thank you for asking."), ("End with exactly this sentence: \"{phrase}\"", "The last words have to be \"{phrase}\"", "Close with \"{phrase}\" and nothing after it.")),
        _postscript(("I can say more if you like.", "There is a good book about it.", "Ask a friend as well."), ("Add a postscript that begins with P.S.", "Put a P.S. at the end.")),
        _mentioned(("Use the word \"{word}\".", "The word \"{word}\" has to be in it.", "Make sure to include \"{word}\".")),
        _avoided(("Do not use the word \"{word}\".", "Leave out the word \"{word}\".", "\"{word}\" must not occur.")),
        _words("at least", ("Write at least {n} words.", "No fewer than {n} words, please.", "Use {n} words or more.")),
        _words("less than", ("Write less than {n} words.", "It must have fewer than {n} words.", "Be brief: under {n} words.")),
        _two_versions(("Give two different answers with ****** between them.", "I want two versions, separated by six asterisks: ******")),
        _opening_paragraph(("however", "still", "besides", "today", "often"), ("Write two paragraphs with an empty line between them; the second starts with \"{word}\".", "Two paragraphs, please, and let the second begin with the word \"{word}\".")),
    ),
    "zh": (
        _fixed("startend:quotation", ("整个回答要放在一对英文双引号里。", "回答的开头和结尾都要有双引号 \" 。"), _quoted),
        _fixed("detectable_format:title", ("加一个标题，写成 <<标题>> 的样子。", "第一行写标题，放在 << 和 >> 之间。"), _titled),
        _numbered("detectable_format:number_bullet_lists", "num_bullets", (2, 3, 4), ("请列成 {n} 条，每条以“* ”开头。", "正好写 {n} 个要点，用“* ”标出。"), _in_bullets),
        _numbered("length_constraints:number_paragraphs", "num_paragraphs", (2, 3), ("写成 {n} 段，段与段之间用 *** 隔开。", "分为 {n} 段，中间放一行 ***。"), _in_paragraphs),
        _numbered("detectable_format:number_highlighted_sections", "num_highlights", (1, 2), ("至少把 {n} 处用星号标出来，例如 *重点*。",), _with_stars),
        _numbered("detectable_content:number_placeholders", "num_placeholders", (1, 2), ("留出至少 {n} 个方括号空位，例如 [姓名]。",), _with_gaps),
        _ending(("以上供参考。", "希望对你有用。", "祝你顺利！", "这就是答案。"), ("最后一句必须是“{phrase}”", "请用这句话结尾：“{phrase}”")),
    ),
}  # fmt: skip
