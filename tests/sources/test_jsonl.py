from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.errors import PromptFileError
from selfalign.shipped import shipped
from selfalign.sources.jsonl import JsonlSource
from selfalign.sources.language import guess_language
from selfalign.types import Prompt


def read(folder: Path, *lines: object) -> list[Prompt]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "p.jsonl").write_bytes(text.encode("utf-8"))
    return JsonlSource(JsonlSource.Config(path="p.jsonl"), folder).prompts()


def test_a_full_line(tmp_path: Path) -> None:
    line = {
        "key": "k", "text": "No comma.", "language": "en", "category": "style",
        "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}],
    }  # fmt: skip
    prompt = read(tmp_path, "", line)[0]
    assert (prompt.text, prompt.language, prompt.category, prompt.origin) == ("No comma.", "en", "style", "p.jsonl:2")
    assert prompt.instruction_id_list == ("punctuation:no_comma",)
    assert prompt.kwargs == "[{}]"
    assert (prompt.round, prompt.split, prompt.parent_id, prompt.rouge_max) == (0, "train", None, None)


def test_other_names_for_the_text(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        {"text": "a"},
        {"prompt": "b"},
        {"instruction": "c", "output": "ignored"},
        {"messages": [{"role": "user", "content": "d"}]},
    )
    assert [row.text for row in rows] == ["a", "b", "c", "d"]


def test_ids_are_content(tmp_path: Path) -> None:
    plain = read(tmp_path, {"text": "a"})[0].prompt_id
    assert read(tmp_path, {"text": "z"}, {"prompt": "a", "category": "c"})[1].prompt_id == plain
    constraint = {"text": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    assert read(tmp_path, constraint)[0].prompt_id != plain


def test_ifevals_null_arguments_mean_absent(tmp_path: Path) -> None:
    def line(kwargs: dict[str, object]) -> dict[str, object]:
        ids = ["length_constraints:number_paragraphs"]
        return {"prompt": "x", "instruction_id_list": ids, "kwargs": [kwargs]}

    prompt = read(tmp_path, line({"keywords": None, "num_paragraphs": 2, "num_words": None}))[0]
    assert prompt.kwargs == '[{"num_paragraphs":2}]'
    assert prompt.prompt_id == read(tmp_path, line({"num_paragraphs": 2}))[0].prompt_id


def test_windows_files_and_unusual_characters(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + '{"text": "a\u2028b"}\r\n{"text": "你好"}\r\n'.encode())
    rows = JsonlSource(JsonlSource.Config(path="p.jsonl"), tmp_path).prompts()
    assert [row.text for row in rows] == ["a\u2028b", "你好"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, found list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": NaN}', "NaN is not JSON"),
        ({"question": "x"}, "has no text; give one of text, prompt, instruction or messages (found: question)"),
        ({"text": "  "}, "the text is empty"),
        ({"text": 3}, "the text is empty or no string"),
        ('{"text": "\\ud800"}', "half a character"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "single user turn"),
        ({"messages": [{"role": "system", "content": "a"}]}, "single user turn"),
        ({"text": "first"}, "the same text as line 1"),
        ({"text": "x", "instruction_id_list": "punctuation:no_comma"}, "must be a list of names"),
        ({"text": "x", "instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]}, "did you mean 'punctuation:no_comma'"),
        ({"text": "x", "instruction_id_list": ["punctuation:no_comma"]}, "kwargs has 0 entries for 1 instruction ids"),
        ({"text": "x", "kwargs": [{}]}, "kwargs has 1 entries for 0 instruction ids"),
        ({"text": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": {}}, "kwargs has 0 entries"),
        ({"text": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [3]}, "kwargs must be a list of objects"),
        ({"text": "x", "language": 3}, "language must be a string"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: object, expected: str) -> None:
    with pytest.raises(PromptFileError) as caught:
        read(tmp_path, {"text": "first"}, line)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'p.jsonl'}:2: ")
    assert "\n" not in str(caught.value)


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(PromptFileError, match=r"latin.jsonl:2: not UTF-8 .byte 14 of the line"):
        JsonlSource(JsonlSource.Config(path="latin.jsonl"), tmp_path).prompts()
    with pytest.raises(PromptFileError, match="is empty"):
        read(tmp_path, "", "  ")
    with pytest.raises(PromptFileError) as caught:
        JsonlSource(JsonlSource.Config(path="none.jsonl"), tmp_path)
    for folder in (tmp_path, Path.cwd(), shipped("data")):
        assert str(folder / "none.jsonl") in str(caught.value)


def test_where_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = JsonlSource(JsonlSource.Config(path="data/seed_prompts.jsonl"), tmp_path / "elsewhere")
    assert source.path == shipped("data") / "seed_prompts.jsonl"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "seed_prompts.jsonl").write_text('{"text": "mine"}', encoding="utf-8")
    assert JsonlSource(JsonlSource.Config(path="data/seed_prompts.jsonl"), tmp_path).prompts()[0].text == "mine"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Write a poem.", "en"),
        ("把“明天见”翻译成法语。", "zh"),
        ("用 Python 写一个排序函数", "zh"),
        ("What does the character 火 mean in Chinese?", "en"),
        ("猫についての詩を書いてください", "ja"),
        ("고양이에 대한 시를 써 주세요", "ko"),
        ("1 + 1 = ?", "en"),
    ],
)
def test_the_language_is_guessed_from_the_script(text: str, language: str) -> None:
    assert guess_language(text) == language


@pytest.mark.parametrize("name", ["seed_prompts.jsonl", "held_out_prompts.jsonl"])
def test_the_shipped_prompts_are_valid(name: str) -> None:
    prompts = JsonlSource(JsonlSource.Config(path=f"data/{name}"), Path("/")).prompts()
    assert len(prompts) > 300
    assert any(prompt.instruction_id_list for prompt in prompts)
    assert {prompt.language for prompt in prompts} == {"en", "zh"}
    assert all(guess_language(prompt.text) == prompt.language for prompt in prompts)


def test_an_answer_goes_along_and_does_not_change_the_id(tmp_path: Path) -> None:
    plain = read(tmp_path, {"text": "a"})[0]
    known = read(tmp_path, {"text": "a", "answer": "Good."})[0]
    assert (plain.answer, known.answer) == (None, "Good.")
    assert known.prompt_id == plain.prompt_id
    assert read(tmp_path, {"text": "a", "answer": None})[0].answer is None
    for wrong in ("  ", 7, ["x"]):
        with pytest.raises(PromptFileError, match=r"p\.jsonl:1: the answer is empty or no string"):
            read(tmp_path, {"text": "a", "answer": wrong})
    with pytest.raises(PromptFileError, match="the answer holds half a character"):
        read(tmp_path, '{"text": "a", "answer": "\\ud800"}')
