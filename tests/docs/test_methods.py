"""docs/methods.md: its tables have every trainer, builder and resampler once, with its test and the recipes that run it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign.config import load_config
from selfalign.registry import find, plugins
from selfalign.shipped import recipes
from selfalign.training.losses.pairwise_settings import LOSSES

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
TEXT = PAGE.read_text(encoding="utf-8")
KINDS = ("train", "pair", "resample")


def rows() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """(kind, names, cells by the table's head) of every row of a table whose second column is a kind's names."""
    for table in re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE):
        head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        kind = head[1].strip("`")
        for cells in lines if kind in KINDS else []:
            assert len(cells) == len(head), cells
            yield kind, re.findall(r"`(\w+)`", cells[1]), dict(zip(head, cells, strict=True))


ROWS = list(rows())


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_is_in_the_table_once(kind: str) -> None:
    named = [name for own, names, _ in ROWS if own == kind for name in names]
    assert sorted(named) == sorted(plugin.name for plugin in plugins(kind))
    if kind == "train":
        assert set(LOSSES) <= set(named)


def test_its_test_is_there_and_is_about_it() -> None:
    for kind, names, cells in ROWS:
        files = [PAGE.parent / link for link in re.findall(r"\]\(([^)]+)\)", cells["test"])]
        assert files, names
        text = "".join(file.read_text(encoding="utf-8") for file in files)
        for name in names:
            used = find(kind, name).target.partition(":")[2]
            assert f'"{name}"' in text or used in text, f"{name} is not in {cells['test']}"


def test_the_recipes_that_run_it_are_named_and_no_others() -> None:
    running = defaultdict(set)
    for recipe, path in recipes().items():
        config = load_config(path)
        running["train", config.train.id].add(recipe)
        running["pair", config.pair.id].add(recipe)
        if config.resample:
            running["resample", config.resample.id].add(recipe)
        if config.teach.rounds:
            running["train", config.teach.train.id].add(recipe)
    for kind, names, cells in ROWS:
        linked = re.findall(r"\[([\w-]+)\]\(\.\./flows/([\w-]+)\.yaml\)", cells["recipe"])
        assert all(shown == file for shown, file in linked)
        assert sorted(shown for shown, _ in linked) == sorted(r for name in names for r in running[kind, name])
        assert linked or cells["recipe"] == "-"


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []
