"""Prompts from CSV, Parquet, plain text and Hugging Face datasets: what is read, and what a wrong file is told."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from selfalign.errors import PromptFileError
from selfalign.registry import find
from selfalign.sources.rows import pick, record_of
from selfalign.sources.settings import Columns
from selfalign.types import Prompt

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "Answer."},
    {"role": "user", "content": "Second?"},
]


def read(folder: Path, id: str, **settings: Any) -> list[Prompt]:
    source = find("prompts", id).load()
    return list(source(source.Config(id=id, **settings), folder).prompts())


def refused(folder: Path, id: str, **settings: Any) -> str:
    with pytest.raises(PromptFileError) as caught:
        read(folder, id, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_csv_rows_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        'text,language,answer,n\nhello,,hi,1\n\n"two\nlines ""quoted""",de,,2\n你好吗,,,3\n', encoding="utf-8-sig"
    )
    rows = read(tmp_path, "csv", path="p.csv")
    assert [(r.text, r.language, r.answer, r.origin) for r in rows] == [
        ("hello", "en", "hi", "p.csv:2"),
        ('two\nlines "quoted"', "de", None, "p.csv:4"),
        ("你好吗", "zh", None, "p.csv:6"),
    ]
    assert [r.language for r in read(tmp_path, "csv", path="p.csv", language="fr", limit=2)] == ["fr", "de"]


def test_csv_with_constraints_is_the_same_prompt_as_in_jsonl(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}')
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["text", "instruction_id_list", "kwargs"], ["a", '["punctuation:no_comma"]', "[{}]"]]
        )
    assert read(tmp_path, "csv", path="p.csv")[0].prompt_id == read(tmp_path, "jsonl", path="p.jsonl")[0].prompt_id


@pytest.mark.parametrize(
    ("data", "settings", "expected"),
    [
        (b"", {}, "p.csv: is empty"),
        (b"text\n", {}, "p.csv: has a header and no row"),
        (b"frage;x\na;b\n", {}, "is the delimiter ';'?"),
        (b"text,b\na,b\n", {"columns": {"text": "c"}}, "p.csv:1: has no column 'c' (columns.text); found: text, b"),
        (b"text,text\na,b\n", {}, "p.csv:1: two columns are called 'text'"),
        (b"text,b\na,b\nc\n", {}, "p.csv:3: has 1 fields where the header has 2"),
        (b'text\nx\n"open\nand on\n', {}, "p.csv:3: a quote (\") is opened here and never closed"),
        (b'text\n"a"b\n', {}, "p.csv:2: text follows a closing quote"),
        (b"text\nok\ncaf\xe9\n", {}, "p.csv:3: not UTF-8 (byte 4 of the line); save the file as UTF-8, or set encoding"),
        (b"text\na\0b\n", {}, "p.csv:2: not text (a zero byte at byte 2"),
        ("text\na\n".encode("utf-16"), {}, "UTF-16 text; save it as UTF-8"),
        (b"PK\x03\x04...", {}, "a zip archive or spreadsheet"),
        (b"text,b\n  ,b\n", {}, "p.csv:2: column 'text' is empty; write the instruction, or set skip_empty"),
        (b"text\n" + b"y" * 10_000_000, {}, "p.csv:2: the text has 10,000,000 characters"),
    ],
)  # fmt: skip
def test_a_wrong_csv_is_told_where_and_what(
    tmp_path: Path, data: bytes, settings: dict[str, Any], expected: str
) -> None:
    (tmp_path / "p.csv").write_bytes(data)
    assert expected in refused(tmp_path, "csv", path="p.csv", **settings)


def test_csv_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("text\tother\na\tb\n")
    (tmp_path / "old.csv").write_bytes("frage;x\ncafé;1\n".encode("cp1252"))
    (tmp_path / "wide.csv").write_text("text,big\na," + "y" * 10_000_000 + "\n")
    assert [r.text for r in read(tmp_path, "csv", path="p.tsv")] == ["a"]
    assert [r.text for r in read(tmp_path, "csv", path="wide.csv")] == ["a"]
    old = read(tmp_path, "csv", path="old.csv", delimiter=";", encoding="cp1252", columns={"text": "frage"})
    assert [r.text for r in old] == ["café"]
    source = find("prompts", "csv").load()
    for encoding in ("utf-16", "klingon"):
        with pytest.raises(ValidationError, match=encoding):
            source.Config(path="p.csv", encoding=encoding)


def test_text_by_line_and_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("\ufeffone \r\n\r\ntwo\r\nthree\r\n\r\n".encode())
    assert [(r.text, r.origin) for r in read(tmp_path, "text", path="p.txt")] == [
        ("one", "p.txt:1"),
        ("two", "p.txt:3"),
        ("three", "p.txt:4"),
    ]
    assert [r.text for r in read(tmp_path, "text", path="p.txt", prompt="paragraph")] == ["one", "two\r\nthree"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b" \n\n", "p.txt: is empty"),
        (b"\x7fELF\x02\0\0", "p.txt:1: not text (a zero byte"),
        (b"\x1f\x8b\x08", "compressed (gzip); unpack it"),
        (b"ok\n\xff\n", "p.txt:2: not UTF-8"),
        (b"ok\n" + b"y" * 10_000_000, "p.txt:2: the text has 10,000,000 characters"),
    ],
)
def test_a_wrong_text_file(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "p.txt").write_bytes(data)
    assert expected in refused(tmp_path, "text", path="p.txt")


def test_parquet_reads_texts_conversations_and_folders(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b", None], "chat": [CHAT] * 3, "answer": [1, 2, 3]})
    pq.write_table(table, tmp_path / "p.parquet")
    rows = read(tmp_path, "parquet", path="p.parquet", skip_empty=True)
    assert [(r.text, r.origin, r.answer) for r in rows] == [("a", "p.parquet:1", None), ("b", "p.parquet:2", None)]
    chats = read(tmp_path, "parquet", path="p.parquet", columns={"text": "chat", "answer": "chat"}, limit=1)
    assert [(r.text, r.answer) for r in chats] == [("First?", "Answer.")]
    assert "p.parquet: row 3: column 'prompt' is empty" in refused(tmp_path, "parquet", path="p.parquet")
    assert "found: prompt, chat, answer" in refused(tmp_path, "parquet", path="p.parquet", columns={"text": "x"})
    (tmp_path / "shards").mkdir()
    for number in (1, 0):
        pq.write_table(table.slice(number, 1), tmp_path / "shards" / f"{number}.parquet")
    assert [r.origin for r in read(tmp_path, "parquet", path="shards")] == ["0.parquet:1", "1.parquet:1"]


def test_a_broken_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["some text to be read"] * 10})
    pq.write_table(table, tmp_path / "p.parquet", compression="snappy", use_dictionary=False)
    whole = (tmp_path / "p.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.parquet").write_bytes(whole[:4] + b"\xff" * 60 + whole[64:])
    (tmp_path / "no.parquet").write_text("text\n")
    (tmp_path / "empty.parquet").write_bytes(b"")
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    for name in ("cut", "no", "empty"):
        assert f"{name}.parquet: not a whole Parquet file" in refused(tmp_path, "parquet", path=f"{name}.parquet")
    assert "bad.parquet: damaged after row 0" in refused(tmp_path, "parquet", path="bad.parquet")
    assert "has no row" in refused(tmp_path, "parquet", path="none.parquet")
    (tmp_path / "folder").mkdir()
    assert "holds no *.parquet file" in refused(tmp_path, "parquet", path="folder")


def test_hugging_face_datasets(tmp_path: Path) -> None:
    import datasets

    share = [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "Yes."}]
    data = datasets.Dataset.from_dict({"prompt": [CHAT[1:], CHAT[1:2]], "conversations": [share] * 2})
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "two"))
    assert [(r.text, r.origin) for r in read(tmp_path, "hf", dataset="one", limit=1)] == [("First?", "one[train]:1")]
    other = {"text": "conversations", "answer": "conversations"}
    rows = read(tmp_path, "hf", dataset="two", split="test[1:]", columns=other)
    assert [(r.text, r.answer, r.origin) for r in rows] == [("Hm?", "Yes.", "two[test[1:]]:1")]
    assert "has no such split; found: train, test" in refused(tmp_path, "hf", dataset="two", split="dev")
    assert "found: prompt, conversations" in refused(tmp_path, "hf", dataset="one", columns={"text": "x"})
    assert "no such folder, and no name on a hub" in refused(tmp_path, "hf", dataset="./none")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"broken")
    assert "one [train]: damaged" in refused(tmp_path, "hf", dataset="one")


def test_a_folder_of_data_files_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "repo").mkdir()
    pq.write_table(pa.table({"instruction": ["Sum up."], "input": ["A text."]}), tmp_path / "repo" / "train.parquet")
    for streaming in (False, True):
        rows = read(tmp_path, "hf", dataset="repo", streaming=streaming)
        assert [r.text for r in rows] == ["Sum up.\n\nA text."]
    assert "has no such split" in refused(tmp_path, "hf", dataset="repo", split="bad")


def test_jsonl_with_columns(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"q": "one?", "a": "1"}\n{"q": [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "x"}]}\n'
    )
    rows = read(tmp_path, "jsonl", path="p.jsonl", columns={"text": "q"}, language="de")
    assert [(r.text, r.language) for r in rows] == [("one?", "de"), ("two?", "de")]
    assert "p.jsonl:2: has no column 'a'" in refused(
        tmp_path, "jsonl", path="p.jsonl", columns={"text": "q", "answer": "a"}
    )


@given(st.text(min_size=1), st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=6))
def test_the_first_user_turn_whatever_surrounds_it(text: str, after: list[str]) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    messages += [{"role": role, "content": "later"} for role in after]
    picked = pick(["messages"], Columns())
    assert record_of({"messages": messages}, picked) == {"text": text}


@given(st.dictionaries(st.sampled_from(["text", "prompt", "instruction", "messages", "x"]), st.none(), min_size=1))
def test_the_first_known_column_is_taken(names: dict[str, None]) -> None:
    known = [name for name in ("text", "prompt", "instruction", "messages") if name in names]
    if known:
        assert pick(names, Columns()).columns["text"] == known[0]
