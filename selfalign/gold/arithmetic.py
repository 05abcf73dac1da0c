"""Arithmetic word problems with worked answers, and answers with one slip in them.

A problem has two steps: ``first`` makes a number from the numbers of the text, ``second`` the result from that.
A slip in the second step leaves the first one right; a slip in the first is carried through, as people do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfalign.gold.answers import Answer
from selfalign.identity import derive_seed

#: Problems made from one template; they stay in one split.
PER_TEMPLATE = 3


@dataclass(frozen=True)
class Template:
    """``ranges`` are those of a, b and c (both ends included); ``t`` and ``r`` stand for the steps' numbers."""

    name: str
    language: str
    prompt: str
    worked: str
    short: str
    ranges: tuple[tuple[int, int], ...]
    first: Callable[[int, int, int], int]
    second: Callable[[int, int, int, int], int]


def word_problems(seed: int) -> list[Answer]:
    """``PER_TEMPLATE`` problems of each template; the same for the same seed."""
    return [_problem(template, number, seed) for template in TEMPLATES for number in range(PER_TEMPLATE)]


def _problem(template: Template, number: int, seed: int) -> Answer:
    rng = random.Random(derive_seed(seed, "arithmetic", template.name, number))
    a, b, c = (rng.randint(*limits) for limits in template.ranges)
    t = template.first(a, b, c)
    r = template.second(t, a, b, c)

    def filled(step: int, result: int) -> tuple[str, str]:
        values = {"a": a, "b": b, "c": c, "t": step, "r": result}
        return template.worked.format(**values), template.short.format(**values)

    slips = [filled(t, wrong) for wrong in _near(r, rng)]
    slips += [filled(wrong, template.second(wrong, a, b, c)) for wrong in _near(t, rng)]
    right = filled(t, r)
    # A wrong short answer shows its result alone: one whose result is right is no slip.
    wrong_texts = dict.fromkeys(text for pair in slips for text in pair if text not in right)
    return Answer(
        key=f"{template.name}-{number + 1}", group=template.name, language=template.language, topic="arithmetic",
        prompt=template.prompt.format(a=a, b=b, c=c), answers=right, wrong={"arithmetic": tuple(wrong_texts)},
        reference=right[1], instruction_id_list=(), kwargs=(),
    )  # fmt: skip


def _near(number: int, rng: random.Random) -> Sequence[int]:
    """Two positive numbers close to ``number`` and unequal to it, as from a slip."""
    slips = [number + step for step in (-10, -2, -1, 1, 2, 10) if number + step > 1]
    return rng.sample(slips, 2)


TEMPLATES = (
    Template(
        "sum-notebooks", "en",
        "Lena buys {a} notebooks at {b} euros each and pays with a {c}-euro voucher. How many euros are left on it?",
        "The notebooks cost {a} × {b} = {t} euros. The voucher is worth {c} euros, so {c} − {t} = {r} euros are left on it.",
        "There are {r} euros left.",
        ((3, 8), (2, 6), (60, 99)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-bus", "en",
        "A bus starts with {c} passengers. At each of {a} stops, {b} more people get on and nobody leaves. How full is it then?",
        "At the stops {a} × {b} = {t} people get on. Together with the {c} who were there, the bus carries {c} + {t} = {r} passengers.",
        "It then carries {r} passengers.",
        ((3, 6), (2, 7), (5, 30)), lambda a, b, c: a * b, lambda t, a, b, c: c + t,
    ),
    Template(
        "sum-eggs", "en",
        "A farm packs its eggs in boxes of {b}. Today it filled {a} boxes and had {c} eggs over. How many eggs were laid?",
        "The full boxes hold {a} × {b} = {t} eggs. Adding the {c} that were over gives {t} + {c} = {r} eggs.",
        "{r} eggs were laid today.",
        ((11, 24), (10, 12), (2, 9)), lambda a, b, c: a * b, lambda t, a, b, c: t + c,
    ),
    Template(
        "sum-savings", "en",
        "Tomas has saved {c} dollars and puts aside {b} dollars a week. How much will he have after {a} weeks?",
        "In {a} weeks he adds {a} × {b} = {t} dollars to his {c} dollars. He will then have {c} + {t} = {r} dollars.",
        "He will have {r} dollars.",
        ((4, 12), (11, 25), (30, 90)), lambda a, b, c: a * b, lambda t, a, b, c: c + t,
    ),
    Template(
        "sum-pages", "en",
        "Priya's novel has {c} pages. She has read {b} pages a day for {a} days. How many pages does she still have to read?",
        "She has read {a} × {b} = {t} pages so far. Of {c} pages, {c} − {t} = {r} are still unread.",
        "She still has {r} pages to read.",
        ((4, 9), (18, 32), (310, 420)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-garden", "en",
        "A rectangular garden is {a} m long and {b} m wide. A pond takes up {c} square metres of it. What area is left for plants?",
        "The whole garden measures {a} × {b} = {t} square metres. Without the pond, {t} − {c} = {r} square metres are left.",
        "{r} square metres are left.",
        ((11, 19), (7, 12), (8, 29)), lambda a, b, c: a * b, lambda t, a, b, c: t - c,
    ),
    Template(
        "sum-train", "en",
        "A goods train covers {b} km an hour. It travels for {a} hours and then has {c} km to go. How long is the whole route?",
        "In {a} hours the train covers {a} × {b} = {t} km. With the remaining {c} km the route is {t} + {c} = {r} km long.",
        "The route is {r} km long.",
        ((3, 7), (55, 85), (20, 95)), lambda a, b, c: a * b, lambda t, a, b, c: t + c,
    ),
    Template(
        "sum-sweets", "en",
        "Grandpa has {a} toffees and {b} mints. He keeps {c} for himself and gives away all the others. How many does he give away?",
        "Altogether he has {a} + {b} = {t} sweets. After keeping {c} for himself, he gives away {t} − {c} = {r}.",
        "He gives away {r} sweets.",
        ((23, 48), (17, 39), (5, 14)), lambda a, b, c: a + b, lambda t, a, b, c: t - c,
    ),
    Template(
        "sum-tickets", "en",
        "Adult tickets cost {a} pounds and child tickets {b} pounds. What do one adult and {c} children pay together?",
        "The children's tickets come to {c} × {b} = {t} pounds. With the adult's {a} pounds, the group pays {t} + {a} = {r} pounds.",
        "Together they pay {r} pounds.",
        ((14, 25), (6, 11), (3, 8)), lambda a, b, c: b * c, lambda t, a, b, c: t + a,
    ),
    Template(
        "sum-recipe", "en",
        "A recipe for one tray of rolls needs {b} g of flour. Marie bakes {a} trays from a {c} g sack. How much flour remains?",
        "For {a} trays she needs {a} × {b} = {t} g of flour. From the sack of {c} g there remain {c} − {t} = {r} g.",
        "{r} g of flour remain.",
        ((2, 5), (210, 390), (2100, 2900)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-chairs", "en",
        "The school hall has {a} rows with {b} chairs each. During a concert {c} chairs stay empty. How many people have a seat?",
        "There are {a} × {b} = {t} chairs in the hall. As {c} are empty, {t} − {c} = {r} people have a seat.",
        "{r} people are seated.",
        ((12, 19), (13, 24), (11, 47)), lambda a, b, c: a * b, lambda t, a, b, c: t - c,
    ),
    Template(
        "sum-phone", "en",
        "A phone plan costs {c} euros a month plus {b} cents for each call. Last month there were {a} calls. What was paid for calls and plan, in cents?",
        "The calls cost {a} × {b} = {t} cents. The plan adds {c} × 100 cents, so the month came to {r} cents.",
        "It came to {r} cents.",
        ((12, 40), (5, 9), (8, 19)), lambda a, b, c: a * b, lambda t, a, b, c: t + 100 * c,
    ),
    Template(
        "sum-marbles", "en",
        "Ravi wins {a} marbles in the morning and {b} after lunch and then has {c} in all. How many did he start the day with?",
        "During the day he won {a} + {b} = {t} marbles. Since he ended with {c}, he began with {c} − {t} = {r}.",
        "He started with {r} marbles.",
        ((6, 19), (7, 18), (51, 90)), lambda a, b, c: a + b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-walk", "en",
        "Every working day Ida walks {a} minutes to the office and {b} minutes back by a detour. How many minutes does she walk in {c} working days?",
        "Each day she walks {a} + {b} = {t} minutes. Over {c} days this makes {c} × {t} = {r} minutes.",
        "She walks {r} minutes.",
        ((14, 26), (21, 38), (3, 9)), lambda a, b, c: a + b, lambda t, a, b, c: c * t,
    ),
    Template(
        "sum-shelves", "en",
        "A carpenter cuts {a} shelves of {b} cm from a board that is {c} cm long. What length of board is unused?",
        "The shelves use up {a} × {b} = {t} cm of the board. Of its {c} cm, {c} − {t} = {r} cm are unused.",
        "{r} cm are unused.",
        ((3, 6), (35, 48), (300, 380)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-zh-apples", "zh",
        "水果店上午卖出{a}箱苹果，每箱{b}个，下午又零卖了{c}个。这一天一共卖出多少个苹果？",
        "上午卖出{a}×{b}={t}个，加上下午零卖的{c}个，一共卖出{t}+{c}={r}个苹果。",
        "一共卖出{r}个。",
        ((6, 14), (12, 24), (13, 48)), lambda a, b, c: a * b, lambda t, a, b, c: t + c,
    ),
    Template(
        "sum-zh-money", "zh",
        "小美带了{c}元去文具店，买了{a}支笔，每支{b}元。她还剩多少钱？",
        "买笔一共花了{a}×{b}={t}元，原来有{c}元，所以还剩{c}-{t}={r}元。",
        "还剩{r}元。",
        ((3, 8), (3, 8), (80, 99)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-zh-class", "zh",
        "一班有{a}人，二班有{b}人，两个班一起去植树，每人种{c}棵。一共种了多少棵树？",
        "两个班共有{a}+{b}={t}人，每人种{c}棵，一共种了{t}×{c}={r}棵。",
        "一共种了{r}棵树。",
        ((28, 41), (27, 43), (2, 6)), lambda a, b, c: a + b, lambda t, a, b, c: t * c,
    ),
    Template(
        "sum-zh-road", "zh",
        "工程队要修{c}米长的路，每天修{b}米，已经修了{a}天。还有多少米没有修？",
        "已经修好{a}×{b}={t}米，全长{c}米，还有{c}-{t}={r}米没有修。",
        "还有{r}米没有修。",
        ((4, 9), (35, 60), (700, 900)), lambda a, b, c: a * b, lambda t, a, b, c: c - t,
    ),
    Template(
        "sum-zh-age", "zh",
        "妈妈今年{a}岁，比女儿大{b}岁。再过{c}年，女儿多少岁？",
        "女儿今年{a}-{b}={t}岁，再过{c}年，就是{t}+{c}={r}岁。",
        "那时女儿{r}岁。",
        ((36, 45), (24, 29), (3, 12)), lambda a, b, c: a - b, lambda t, a, b, c: t + c,
    ),
)  # fmt: skip
