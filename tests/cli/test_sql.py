"""``selfalign sql``: formats, files, parameters, other runs, and what a terminal is spared."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from selfalign.cli.app import app
from selfalign.cli.results import Format, show
from selfalign.errors import BadInput
from selfalign.store.store import Store
from selfalign.visible import json_safe, visible
from tests.store.rows import candidate, pair, prompt

HOSTILE = 'a,"b"\r\n\x1b]0;owned\x07\x9b2J\u202etxt'


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs ``one`` and ``two``; what a model wrote in ``one`` is hostile."""
    folder = tmp_path_factory.mktemp("workspaces")
    (folder / "one").mkdir()
    store = Store(folder / "one" / "store.duckdb")
    store.create()
    shutil.copytree(folder / "one", folder / "two")
    store.put_round(1, status="done")
    store.insert(
        [prompt(text=HOSTILE), prompt("p2"), candidate("a", text=HOSTILE), candidate("b"), pair("x", "a", "b")]
    )
    return folder


def sql(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", str(folder / "one"), *arguments], input=stdin, env={"COLUMNS": "200"})


def printed(result: Result) -> str:
    assert result.exit_code == 0, result.exception
    return result.stdout


def test_without_a_query_it_lists_tables_and_views(workspaces: Path) -> None:
    text = printed(sql(workspaces))
    for name in ("pairs", "candidates", "round_summary", "regression_pairs", "unpaired"):
        assert name in text
    assert {"name", "kind", "rows", "about"} == set(json.loads(printed(sql(workspaces, "--json")))[0])


@pytest.mark.parametrize(
    "query",
    ["select text from prompts", "select chosen from pair_text", "select *, 1 as x, 2 as y, 3 as z from candidates"],
)
def test_a_table_has_no_active_characters(workspaces: Path, query: str) -> None:
    text = printed(sql(workspaces, query))
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    assert "\\x1b]0;owned\\x07\\x9b2J\\u202etxt" in text.replace("\n", "")


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_json_has_them_as_escapes_and_means_the_same(workspaces: Path, format: str) -> None:
    text = printed(sql(workspaces, "select prompt_id, text from prompts order by 1", "--format", format))
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    found = json.loads(text) if format == "json" else [json.loads(line) for line in text.splitlines()]
    assert found[0] == {"prompt_id": "p1", "text": HOSTILE}


def test_csv_is_verbatim_in_a_pipe_and_shown_as_escapes_on_a_terminal(
    workspaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    result = sql(workspaces, "select text from prompts where prompt_id = 'p1'", "--format", "csv")
    assert list(csv.reader(io.StringIO(result.stdout_bytes.decode(), newline="")))[1] == [HOSTILE]
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    show(pa.table({"text": [HOSTILE]}), Format.csv)
    assert "\x1b" not in terminal.getvalue()
    assert "\\x1b]0;owned" in terminal.getvalue()


def test_visible_keeps_what_is_harmless() -> None:
    assert visible("tab\tline\nümläut 漢字 👩‍💻 \\x1b") == "tab\tline\nümläut 漢字 👩‍💻 \\x1b"
    assert visible("\x00\x1b\x7f\x85\u2066") == "\\x00\\x1b\\x7f\\x85\\u2066"
    assert json.loads(json_safe(json.dumps("\x7f\x9b\u202e", ensure_ascii=False))) == "\x7f\x9b\u202e"


def test_values_that_json_and_csv_lack_are_translated(workspaces: Path) -> None:
    query = (
        "select 'nan'::double as n, sum(1) as total, 1.5::decimal(4,2) as d, null as nothing, true as yes, "
        "['a', null] as l, map {'k': 1} as m, timestamp '2026-01-02 03:04:05' as t, {'x': [1]} as s"
    )
    expected = {"n": None, "total": 1, "d": 1.5, "nothing": None, "yes": True, "l": ["a", None], "m": {"k": 1},
                "t": "2026-01-02T03:04:05", "s": {"x": [1]}}  # fmt: skip
    assert json.loads(printed(sql(workspaces, query, "--json"))) == [expected]
    header, row = csv.reader(io.StringIO(printed(sql(workspaces, query, "--format", "csv"))))
    assert header == list(expected)
    assert row == ["", "1", "1.5", "", "true", '["a", null]', '{"k": 1}', "2026-01-02T03:04:05", '{"x": [1]}']


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.jsonl", "out.parquet", "out.PARQUET"])
def test_output_takes_the_format_from_the_name(workspaces: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("what was there before")
    result = sql(workspaces, "select prompt_id from prompts order by 1", "--output", str(tmp_path / name))
    assert printed(result) == ""
    assert "2 rows written" in result.stderr
    read = {
        ".csv": lambda p: p.read_text().split()[1:],
        ".json": lambda p: [row["prompt_id"] for row in json.loads(p.read_text())],
        ".jsonl": lambda p: [json.loads(line)["prompt_id"] for line in p.read_text().splitlines()],
        ".parquet": lambda p: pq.read_table(p)["prompt_id"].to_pylist(),
    }[Path(name).suffix.lower()]
    assert read(tmp_path / name) == ["p1", "p2"]
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is left beside it"


def test_a_failed_output_leaves_what_was_there(workspaces: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    target.write_text("before")
    for query in ("select 1 as a, 2 as a", "select nothing"):
        assert isinstance(sql(workspaces, query, "--output", str(target)).exception, BadInput)
    assert target.read_text() == "before"
    missing = sql(workspaces, "select 1", "--output", str(tmp_path / "no" / "out.csv")).exception
    assert isinstance(missing, BadInput)
    assert "cannot be written" in str(missing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select 1", "--format", "parquet"], "--output"),
        (["select 1", "--output", "x.txt"], "add --format"),
        (["select 1", "--output", "x.csv", "--format", "table"], "for the terminal"),
        (["select 1", "--json", "--format", "csv"], "contradict"),
        (["select 1", "--param", "r"], "has no name"),
        (["select 1", "--with", "other"], "has no name"),
        (["select 1", "--with", "one=two"], "is taken"),
        (["select 1", "--with", "x=nowhere"], "no run here"),
        (["select 1", "--file", "x.sql"], "give one of them"),
        (["--file", "/nowhere.sql"], "cannot be read"),
        (["--param", "r=1"], "need a query"),
        (["select 1 as a, 2 as a", "--json"], "two columns are called 'a'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(workspaces: Path, arguments: list[str], message: str) -> None:
    error = sql(workspaces, *arguments).exception
    assert isinstance(error, BadInput)
    assert message in str(error)
    assert "\n" not in str(error)


def test_a_query_comes_from_a_file_or_standard_input_with_parameters(workspaces: Path, tmp_path: Path) -> None:
    text = "select prompt_id from prompts where prompt_id = $id"
    (tmp_path / "q.sql").write_text(text)
    expected = [{"prompt_id": "p2"}]
    given = ("--param", "id=p2", "--json")
    assert json.loads(printed(sql(workspaces, "--file", str(tmp_path / "q.sql"), *given))) == expected
    assert json.loads(printed(sql(workspaces, "-", *given, stdin=text))) == expected


def test_limit_says_that_there_is_more(workspaces: Path) -> None:
    assert "there are more rows" in printed(sql(workspaces, "select * from prompts", "--limit", "1"))
    assert "there are more rows" not in printed(sql(workspaces, "select * from prompts", "--limit", "2"))
    assert len(json.loads(printed(sql(workspaces, "from prompts", "--limit", "1", "--json")))) == 1


def test_other_runs_stand_beside_this_one(workspaces: Path) -> None:
    query = "select (select count(*) from prompts) a, (select count(*) from one.prompts) b, (select count(*) from x.prompts) c"
    found = printed(sql(workspaces, query, "--with", f"x={workspaces / 'two'}", "--json"))
    assert json.loads(found) == [{"a": 2, "b": 2, "c": 0}]


def test_two_columns_of_one_name_are_both_shown(workspaces: Path) -> None:
    assert printed(sql(workspaces, "select 1 as a, 2 as a", "--format", "csv")) == "a,a\n1,2\n"
    assert "│ 1 │ 2 │" in printed(sql(workspaces, "select 1 as a, 2 as a"))
