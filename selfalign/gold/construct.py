"""Gold items from prompts with good answers: ``python -m selfalign.gold.construct [data folder]``.

Everything is drawn from a seed, so that the file can be made again byte for byte. Three rules keep cheap cues
from giving the answer away:

* length: within each kind and split an item is chosen so that the better answer is about as often the longer one;
* style: rivals (two prompts with constraints that exclude each other, a task in two languages, off-topic swaps)
  make the same text the better answer of one prompt and the worse one of another;
* phrases: refusals, padding and appeals to the judge come from lists of which each split has its own part.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from selfalign import constraints
from selfalign.gold import corrupt
from selfalign.gold.answers import Answer, Phrases, load_answers, load_phrases
from selfalign.gold.arithmetic import word_problems
from selfalign.gold.constrained import constrained_items
from selfalign.gold.items import GoldItem
from selfalign.identity import canonical, derive_seed
from selfalign.types import GoldSplit

SEED = 20260
SHARES: Mapping[GoldSplit, float] = {"teach": 0.6, "calibrate": 0.1, "test": 0.3}
#: Kinds that any prompt can have, in the order in which they are dealt out; the subtle ones twice.
GENERIC = (
    "off_topic", "truncated", "verbose", "corrupted", "terse", "truncated", "evasive", "off_topic", "refusal", "verbose",
    "injected",
)  # fmt: skip
#: Generic items a prompt, by what its authored wrong answers are; "open" has none.
GENERIC_ITEMS: Mapping[str, int] = {"open": 3, "fact": 1, "arithmetic": 0, "constraint": 1, "language": 2}
#: Items with checked constraints made from answers that carry none; for the teach split alone.
TEACH_CONSTRAINED = 500
#: Worse answers up to this much longer or shorter than the better one count as matched in length.
MATCHED = 0.1
#: How often a matched pair is taken where there is one.
MATCHED_SHARE = 0.35

#: (better, worse)
Pair = tuple[str, str]


def construct(answers: Sequence[Answer], phrases: Phrases, seed: int) -> list[GoldItem]:
    """The items of all splits, in order of key; depends on the arguments' content and on ``seed`` alone."""
    ordered = sorted(answers, key=lambda answer: answer.key)
    splits = assign_splits(ordered, seed)
    items: list[GoldItem] = []
    for split in get_args(GoldSplit):
        members = [answer for answer in ordered if splits[answer.group] == split]
        own = _part(phrases, split)
        items += _Builder(members, own, split, seed).items()
        if split == "teach":
            further = _further(members, own, seed, {(i.prompt, i.better, i.worse) for i in items})
    # Last, so that the keys before them stay what they are when there are more or fewer.
    return [replace(item, key=f"gold-{number:04d}") for number, item in enumerate([*items, *further], start=1)]


def _further(
    members: Sequence[Answer], phrases: Phrases, seed: int, made: Collection[tuple[str, str, str]]
) -> list[GoldItem]:
    """What a judge is taught with beside the first deal: a second one of the same answers, and rewritten ones.

    A slip in arithmetic is left out: a small model only learns such answers by heart.
    """
    again = _Builder(members, phrases, "teach", derive_seed(seed, "second deal")).items()
    new = [i for i in again if i.kind != "arithmetic" and (i.prompt, i.better, i.worse) not in made]
    plain = [answer for answer in members if family(answer) != "arithmetic"]
    return [*new, *constrained_items(plain, "teach", TEACH_CONSTRAINED, seed)]


def assign_splits(answers: Sequence[Answer], seed: int) -> dict[str, GoldSplit]:
    """The split of each group; within a stratum (what the groups are for, their languages) shares are kept."""
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.group].append(answer)
    for group, members in groups.items():
        strata[family(members[0]), *sorted({member.language for member in members})].append(group)
    found: dict[str, GoldSplit] = {}
    for stratum in strata.values():
        counts: Counter[GoldSplit] = Counter()
        for place, group in enumerate(sorted(stratum, key=lambda group: derive_seed(seed, "split", group)), start=1):
            # The split that lags most behind its share.
            split = max(SHARES, key=lambda name: SHARES[name] * place - counts[name])
            counts[split] += 1
            found[group] = split
    return found


def family(answer: Answer) -> str:
    """What a prompt is for: the kind of its authored wrong answers, or "open"."""
    return next(iter(sorted(answer.wrong)), "open")


def write_gold(path: Path, items: Sequence[GoldItem]) -> None:
    """One object a line, keys sorted, text as it is: equal items are equal bytes."""
    path.write_text("".join(line(item) + "\n" for item in items), encoding="utf-8")


def line(item: GoldItem) -> str:
    """``item`` as JSON, without what is empty."""
    fields = {
        "key": item.key, "split": item.split, "kind": item.kind, "language": item.language, "prompt": item.prompt,
        "better": item.better, "worse": item.worse, "reference": item.reference,
        "instruction_id_list": list(item.instruction_id_list), "kwargs": json.loads(item.kwargs),
    }  # fmt: skip
    kept = {name: value for name, value in fields.items() if value or name in ("better", "worse")}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def direction(better: str, worse: str) -> int:
    """1 where the better answer has more characters, -1 where it has fewer, 0 where they are equal."""
    return (len(better) > len(worse)) - (len(better) < len(worse))


def breaks(worse: str, answer: Answer) -> bool:
    """Whether ``worse`` fails a constraint of the prompt, and no checker failed in finding out."""
    result = constraints.check(worse, answer.instruction_id_list, canonical(list(answer.kwargs)), answer.prompt)
    return not all(result.strict) and not result.errors


class _Builder:
    """The items of one split; keeps count of which answer was the longer one."""

    def __init__(self, answers: Sequence[Answer], phrases: Phrases, split: GoldSplit, seed: int) -> None:
        self._answers = answers
        self._phrases = phrases
        self._split: GoldSplit = split
        self._seed = seed
        self._balance: Counter[str] = Counter()
        self._total = 0
        self._seen: set[tuple[str, str, str]] = set()
        self._donors = {
            language: sorted({text for a in answers if a.language == language for text in a.answers})
            for language in {answer.language for answer in answers}
        }
        self._owners: dict[str, set[str]] = defaultdict(set)
        for answer in answers:
            for text in answer.answers:
                self._owners[text].add(answer.group)

    def items(self) -> list[GoldItem]:
        # What can only go one way comes first, so that the others can make up for it.
        plan = sorted(self._plan(), key=lambda entry: entry[1] not in ("terse", "rival"))
        made = [item for answer, kind in plan for item in self._made(answer, kind)]
        return sorted(made, key=lambda item: (item.prompt, item.kind, item.better, item.worse))

    def _plan(self) -> Iterator[tuple[Answer, str]]:
        dealt: Counter[str] = Counter()
        for answer in sorted(self._answers, key=lambda answer: derive_seed(self._seed, "deal", answer.key)):
            own = family(answer)
            if own == "constraint" or (own == "language" and answer.instruction_id_list):
                yield answer, "rival"
                if own == "constraint":
                    yield answer, "constraint"
            elif own != "open":
                yield from [(answer, own)] * (1 if own == "language" else 2)
            for _ in range(GENERIC_ITEMS[own]):
                yield answer, GENERIC[dealt[answer.language] % len(GENERIC)]
                dealt[answer.language] += 1

    def _made(self, answer: Answer, kind: str) -> list[GoldItem]:
        """One item, or none where nothing (new) can be made of the answer."""
        rng = random.Random(derive_seed(self._seed, "item", answer.key, kind, len(self._seen)))
        label = family(answer) if kind == "rival" else kind
        pairs = [
            pair for pair in dict.fromkeys(self._pairs(answer, kind, rng))
            if pair[0] != pair[1] and pair[1].strip() and (answer.key, *pair) not in self._seen
        ]  # fmt: skip
        if not pairs:
            return []
        better, worse = self._choose(pairs, label, rng)
        self._seen.add((answer.key, better, worse))
        way = direction(better, worse)
        self._balance[label] += way
        self._total += way
        checked = bool(answer.wrong.keys() & {label}) and bool(answer.instruction_id_list)
        reference = answer.reference or next((text for text in answer.answers if text != better), "")
        return [
            GoldItem(
                "", self._split, label, answer.language, answer.prompt, better, worse, reference,
                answer.instruction_id_list if checked else (), canonical(list(answer.kwargs) if checked else []),
            )
        ]  # fmt: skip

    def _choose(self, pairs: Sequence[Pair], kind: str, rng: random.Random) -> Pair:
        wanted = -1 if (self._balance[kind], self._total) > (0, 0) else 1
        right_way = [pair for pair in pairs if direction(*pair) == wanted] or list(pairs)
        matched = [pair for pair in pairs if is_matched(*pair) and direction(*pair) in (wanted, 0)]
        return rng.choice(matched if matched and rng.random() < MATCHED_SHARE else right_way)

    def _pairs(self, answer: Answer, kind: str, rng: random.Random) -> Iterator[Pair]:
        """Every (better, worse) that ``kind`` can make for the prompt; the better and the source may differ in length."""
        if kind in ("rival", "constraint"):
            texts = list(answer.wrong[family(answer)]) if kind == "rival" else list(self._violations(answer, rng))
            yield from ((better, worse) for better in answer.answers for worse in texts if breaks(worse, answer))
            return
        for better in answer.answers:
            for worse in self._worse(answer, kind, better, rng):
                yield better, worse

    def _worse(self, answer: Answer, kind: str, better: str, rng: random.Random) -> list[str]:
        language = answer.language
        if kind in answer.wrong:
            return list(answer.wrong[kind])
        if kind == "off_topic":
            return self._strangers(answer, better)
        if kind in ("truncated", "corrupted"):
            make = corrupt.truncated if kind == "truncated" else corrupt.corrupted
            return [worse for text in answer.answers for worse in make(text, rng)]
        phrases = self._of(language)
        if kind == "verbose":
            return [worse for text in answer.answers for worse in corrupt.verbose(text, phrases, rng, language)]
        if kind == "injected":
            return corrupt.injected(better, phrases, rng, language)
        if kind == "refusal":
            return corrupt.chained(phrases("refusal"), phrases("refusal_tail"), rng, language, 4)
        if kind == "evasive":
            return corrupt.chained(phrases("evasive"), phrases("evasive"), rng, language, 4)
        return corrupt.chained(phrases("terse"), (), rng, language, 0)

    def _violations(self, answer: Answer, rng: random.Random) -> Iterator[str]:
        for instruction_id, arguments in zip(answer.instruction_id_list, answer.kwargs, strict=True):
            for text in answer.answers:
                yield from corrupt.violated(text, instruction_id, arguments, self._of(answer.language), rng)

    def _strangers(self, answer: Answer, better: str) -> list[str]:
        """Good answers to other prompts of the split: the three nearest in length on each side."""
        texts = [text for text in self._donors[answer.language] if answer.group not in self._owners[text]]
        longer = sorted((t for t in texts if len(t) > len(better)), key=lambda t: (len(t), t))[:3]
        shorter = sorted((t for t in texts if len(t) < len(better)), key=lambda t: (-len(t), t))[:3]
        return [*longer, *shorter]

    def _of(self, language: str) -> Callable[[str], Sequence[str]]:
        return lambda kind: self._phrases[kind, language]


def is_matched(better: str, worse: str) -> bool:
    """Whether the shorter answer has at least nine tenths of the longer one's characters."""
    return min(len(better), len(worse)) >= (1 - MATCHED) * max(len(better), len(worse))


def _part(phrases: Phrases, split: GoldSplit) -> Phrases:
    """The phrases that are the split's own: six, one and three of every ten."""
    tenths = {"teach": range(6), "calibrate": range(6, 7), "test": range(7, 10)}[split]
    return {
        key: tuple(text for place, text in enumerate(texts) if place % 10 in tenths) for key, texts in phrases.items()
    }


def main(folder: Path) -> None:
    """Make ``gold.jsonl`` in ``folder`` from its ``gold_answers.jsonl`` and ``gold_phrases.json``."""
    answers = [*load_answers(folder / "gold_answers.jsonl"), *word_problems(SEED)]
    items = construct(answers, load_phrases(folder / "gold_phrases.json"), SEED)
    write_gold(folder / "gold.jsonl", items)
    print(f"{folder / 'gold.jsonl'}: {len(items)} items, {dict(Counter(item.split for item in items))}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
