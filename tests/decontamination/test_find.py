from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.decontamination.benchmarks import Item
from selfalign.decontamination.find import Finder, Hit
from selfalign.decontamination.settings import Settings
from selfalign.errors import BadInput
from selfalign.sources.rouge import words

TEXT = st.lists(st.sampled_from(["a", "b", "c", "Ab.", "你", "好", "x-y"]), max_size=14).map(" ".join)


def grams(text: str, width: int) -> list[tuple[str, ...]]:
    own = words(text)
    return [tuple(own[at : at + width]) for at in range(len(own) - width + 1)]


def by_definition(text: str, items: list[Item], settings: Settings) -> Hit | None:
    """The settings' docstring, word by word."""
    shares = {}
    for item in items:
        width = min(len(words(item.text)), settings.ngram)
        own = grams(item.text, width) if width >= min(settings.shortest, settings.ngram) else []
        there = [gram for gram in own if gram in grams(text, width)]
        if there and len(there) / len(own) >= settings.share:
            shares[item.place] = (len(there) / len(own), width)
    if not shares:
        return None
    place = min(shares, key=lambda place: (-shares[place][0], place))
    share, width = shares[place]
    item = items[place - 1]
    first = next(gram for gram in grams(text, width) if gram in grams(item.text, width))
    return Hit(item, " ".join(first), share, len(shares))


@given(
    st.lists(TEXT, max_size=6),
    st.lists(TEXT, min_size=1, max_size=6),
    st.builds(Settings, st.integers(2, 5), st.sampled_from([0.0, 0.5, 0.7, 1.0]), st.integers(2, 4)),
)
def test_finds_what_the_definition_says(texts: list[str], benchmark: list[str], settings: Settings) -> None:
    items = [Item("b", place, text) for place, text in enumerate(benchmark, start=1)]
    found = dict(Finder(items, settings).find(texts))
    expected = {index: hit for index, text in enumerate(texts) if (hit := by_definition(text, items, settings))}
    assert found == expected


def test_case_and_punctuation_do_not_hide_an_item() -> None:
    item = Item("b.jsonl", 1, "The quick brown fox jumps over the lazy dog while seven wizards quietly watch it.")
    finder = Finder([item], Settings())
    row = "Rewrite: THE QUICK, brown fox -- jumps over the lazy dog while seven wizards quietly... sleep"
    ((index, hit),) = finder.find(["nothing of it", row])
    assert (index, hit.item, hit.n_items) == (1, item, 1)
    assert hit.gram == "the quick brown fox jumps over the lazy dog while seven wizards quietly"
    assert hit.share == 1 / 3
    assert not finder.find([row.replace("wizards", "lizards")]), "twelve words in a row are not enough"


def test_chinese_counts_by_character() -> None:
    item = Item("b.txt", 3, "小明有三个苹果,他给了小红一个,还剩几个?")
    finder = Finder([item], Settings())
    assert finder.find(["题目:小明有三个苹果 他给了小红一个。"])[0][1].item == item
    assert not finder.find(["小明有三个苹果。"])


def test_short_items_are_one_gram_or_cannot_be_told() -> None:
    finder = Finder([Item("b", 1, "one two three four five six seven eight"), Item("b", 2, "yes or no")], Settings())
    assert finder.too_short == 1
    assert [hit.share for _, hit in finder.find(["say: one two three four five six seven eight!"])] == [1.0]
    assert not finder.find(["yes or no", "one two three four five six seven"])


@pytest.mark.parametrize("wrong", [{"ngram": 1}, {"ngram": 99}, {"share": 1.5}, {"shortest": 1}])
def test_settings_have_limits(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Settings(**wrong)  # type: ignore[arg-type]


def test_a_large_benchmark_takes_no_time_for_ordinary_text() -> None:
    pool = [f"w{(k * k * 31 + k // 7) % 9973}" for k in range(120_000)]
    items = [Item("b", at + 1, " ".join(pool[at * 60 : at * 60 + 60])) for at in range(1_000)]
    other = pool[::-1]
    rows = [" ".join(other[at * 10 : at * 10 + 80]) for at in range(2_000)]
    rows[77] = "please solve " + items[5].text
    started = time.process_time()
    hits = Finder(items, Settings()).find(rows)
    assert [(index, hit.item.place, hit.share) for index, hit in hits] == [(77, 6, 1.0)]
    assert time.process_time() - started < 5, "0.2 s on an idle machine"
