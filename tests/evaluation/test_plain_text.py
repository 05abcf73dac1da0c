from __future__ import annotations

import re
from pathlib import Path

import pytest

from selfalign.errors import PromptFileError
from selfalign.evaluation.plain_text import forgotten, likelihood, load_paragraphs
from selfalign.shipped import shipped


def test_the_shipped_text_is_what_its_table_says() -> None:
    found = load_paragraphs(shipped("data") / "plain_text.jsonl")
    english = [p for p in found if p.language == "en"]
    chinese = [p for p in found if p.language == "zh"]
    assert (len(english), len(chinese)) == (45, 16)
    assert len({p.text for p in found}) == len(found)
    assert all(60 <= len(p.text.split()) <= 120 for p in english)
    assert all(100 <= len(p.text) <= 200 for p in chinese)
    said = (shipped("data") / "README.md").read_text(encoding="utf-8")
    assert re.search(r"61 paragraphs .*\(45 English, 16 Chinese\)", said)


def test_it_shares_no_text_with_the_prompts() -> None:
    prompts = "".join((shipped("data") / f"{name}_prompts.jsonl").read_text(encoding="utf-8") for name in ("seed", "held_out"))  # fmt: skip
    for paragraph in load_paragraphs(shipped("data") / "plain_text.jsonl"):
        assert paragraph.text[:40] not in prompts


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "x.jsonl:2: needs key"), ('{"key": "b"}', "x.jsonl:2: needs key"),
        ('{"key": "a", "language": "en", "text": "again"}', "there twice"),
        ('{"key": "b", "language": "en", "text": " "}', "is empty"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"key": "a", "language": "en", "text": "words"}\n' + line, encoding="utf-8")
    with pytest.raises(PromptFileError, match=re.escape(said)):
        load_paragraphs(path)


def test_forgetting_is_paired_by_paragraph() -> None:
    """Paragraphs differ far more than a round changes them: only pairing sees it."""
    before = {f"p{i}": 2.0 + i for i in range(10)}
    after = {key: value + 0.1 + 0.01 * (i % 2) for i, (key, value) in enumerate(before.items())}
    change = forgotten(before, {**after, "new": 1.0}, seed=1)
    assert change.difference.value == pytest.approx(0.105)
    assert change.difference.n == 10
    assert change.difference.low is not None and change.difference.low > 0.1
    assert (change.better, change.worse) == (10, 0)
    mean = likelihood(before)
    assert mean.low is not None and mean.low < 6 and mean.n == 10
