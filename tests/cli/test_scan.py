from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign.cli.app import app
from selfalign.errors import BadInput
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.store.rows import candidate, prompt

MAIL = "Write to jane.roe@gmail.com"


def scan(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["scan", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def rows(*arguments: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(scan(*arguments, "--json")[1])
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": text}) for text in ("A poem", MAIL, MAIL, "[red]\x1b[2J +44 20 7183 8750"))
    )
    return path


def test_it_counts_by_kind_and_masks(file: Path) -> None:
    code, said = scan(file)
    assert code == 0 and "3 findings in 3 of 4 texts" in said
    assert "email" in said and "p.jsonl:2 jan********" in said
    assert "gmail" not in said and "7183" not in said
    assert scan(file, "--fail")[0] == 1


def test_nothing_found_is_0_even_with_fail(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("A poem\n")
    assert scan(tmp_path / "p.txt", "--fail") == (0, "nothing found in 1 texts\n")


def test_rows_for_programs(file: Path, tmp_path: Path) -> None:
    first = rows(file)[0]
    assert first.pop("id")
    assert first == {
        "source": str(file), "where": "p.jsonl:2", "field": "text", "start": 9, "kind": "email", "excerpt": "jan********",
    }  # fmt: skip
    out = tmp_path / "found.csv"
    assert "rows in" in scan(file, "--output", out)[1].replace("\n", " ")
    assert out.read_text().splitlines()[0] == "source,where,id,field,start,kind,excerpt"


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("p.csv", f"question\n{MAIL}\n", ("--column", "question")),
        ("p.tsv", f"text\tx\n{MAIL}\ty\n", ()),
        ("p.md", MAIL, ()),
    ],
)
def test_other_files(tmp_path: Path, name: str, text: str, more: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)
    assert [row["kind"] for row in rows(tmp_path / name, *more)] == ["email"]


def test_a_config_names_its_files(file: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("instruction\nFrom 93.184.215.14\n")
    config = tmp_path / "run.yaml"
    settings = {"prompts": {"sources": [{"id": "csv", "path": str(tmp_path / "more.csv")}],
                            "held_out": [{"id": "text", "path": str(file)}]}}  # fmt: skip
    config.write_text(json.dumps(settings))
    assert [row["kind"] for row in rows(config)] == ["ip_address", "email", "email", "phone_number"]


def test_a_run_has_prompts_and_with_candidates_answers(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "made")
    workspace.create()
    store = Store(workspace.store_path)
    store.create()
    asked = [prompt("p", round=round, text=MAIL, origin="p.jsonl:7") for round in (1, 2)]
    store.insert([*asked, candidate("c", "p", round=1, text="Call (212) 736-5000")])
    assert [(r["where"], r["id"], r["kind"]) for r in rows(workspace.path)] == [("p.jsonl:7", "p", "email")]
    assert [(r["where"], r["id"], r["field"], r["kind"]) for r in rows(workspace.path, "--candidates")][1:] == [
        ("p.jsonl:7", "c", "candidate", "phone_number")
    ]


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("nothing.jsonl", (), "no such prompt file"),
        ("nothing", (), "neither a prompt file"),
        ("nothing.yaml", (), "no such config file"),
        ("p.jsonl", ("--candidates",), "--candidates is for runs"),
        ("p.jsonl", ("--column", "x"), "no column 'x'"),
        ("p.txt", ("--column", "x"), "a text file has none"),
    ],
)  # fmt: skip
def test_bad_input_is_said_in_a_line(file: Path, tmp_path: Path, name: str, more: tuple[str, ...], said: str) -> None:
    (tmp_path / "p.txt").write_text("A poem\n")
    with pytest.raises(BadInput, match=said):
        scan(tmp_path / name, *more)


def test_looking_at_the_command_line_loads_none_of_the_libraries() -> None:
    code = (
        "import sys, selfalign.cli.app, selfalign.stages.prompts, selfalign.scanning.find;"
        "print([m for m in ('detect_secrets', 'phonenumbers', 'stdnum') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
