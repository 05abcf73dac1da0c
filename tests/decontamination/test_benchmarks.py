from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfalign.decontamination.benchmarks import read_items
from selfalign.errors import BadInput


def test_every_format_gives_the_same_items(tmp_path: Path) -> None:
    texts = ["What is 2 + 2?", 'He said "no", twice.']
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"id": 1, "question": text}) for text in texts))
    (tmp_path / "b.json").write_text(json.dumps([{"question": text} for text in texts]))
    (tmp_path / "b.csv").write_text('id,question\n1,What is 2 + 2?\n2,"He said ""no"", twice."\n')
    (tmp_path / "b.txt").write_text("\n".join(texts) + "\n\n")
    pq.write_table(pa.table({"question": texts, "answer": ["4", "x"]}), tmp_path / "b.parquet")
    for name in ("b.jsonl", "b.json", "b.csv", "b.txt", "b.parquet"):
        found = read_items(tmp_path / name)
        assert [(item.file, item.place, item.text) for item in found] == [(name, 1, texts[0]), (name, 2, texts[1])]


def test_a_column_is_named_or_known(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(
        '{"stem": "odd", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
    )
    with pytest.raises(BadInput, match=r"has no one of question, .*found: stem, messages.*--decontaminate-column"):
        read_items(path)
    assert read_items(path, "stem")[0].text == "odd"
    assert read_items(path, "messages")[0].text == "hi\nho"
    with pytest.raises(BadInput, match="no column 'x'"):
        read_items(path, "x")


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "b.parquet").write_bytes(b"PAR0")
    (tmp_path / "b.docx").write_text("x")
    for name, words in (
        ("broken.jsonl", "broken.jsonl:2: not JSON"), ("empty.txt", "no item with text"), ("b.parquet", "not a readable"),
        ("b.docx", "does not tell the format"), ("none.csv", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words) as error:
            read_items(tmp_path / name)
        assert "\n" not in str(error.value)
