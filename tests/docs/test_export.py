"""docs/export.md: its commands are ones, and its tables are the program's."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from typer.testing import CliRunner

from selfalign.cli.app import app
from selfalign.decontamination.benchmarks import KNOWN_COLUMNS
from selfalign.export.card import TRAINERS
from selfalign.export.columns import TEXTS, VALUES, Kind, Style
from selfalign.export.request import SOURCES
from tests.export.made import make_run

PAGE = (Path(__file__).parent.parent.parent / "docs" / "export.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    selfalign (export .*)$", PAGE, re.MULTILINE)


def test_the_commands_run(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "quickstart")
    item = "one two three four five six seven eight nine"
    (tmp_path / "benchmark.jsonl").write_text(f'{{"question": "{item}"}}\n')
    (tmp_path / "other.csv").write_text(f"question\n{item}\n")
    with contextlib.chdir(tmp_path):
        for command in COMMANDS:
            if "--push" in command or "--branch" in command:
                continue  # tests/cli/test_export.py, tests/export/test_export.py
            done = CliRunner().invoke(
                app, command.replace("--rounds 2-3", "--rounds 1-2").replace("0.1", "0.4").split()
            )
            assert done.exit_code == 0, (command, done.output, done.exception)


def test_the_tables_are_the_programs() -> None:
    rows = {
        cells[0].strip(" `"): cells for line in PAGE.splitlines() if line.startswith("|") for cells in [line.strip("|").split("|")]
    }  # fmt: skip
    for kind, sources in SOURCES.items():
        named = re.findall(r"`(\w+)`", rows[kind][2])
        assert named[: len(TEXTS[kind]) + len(VALUES[kind])] == [*TEXTS[kind], *VALUES[kind]]
        assert tuple(re.findall(r"\w+Trainer", rows[kind][3])) == TRAINERS[kind]
        assert kind == "judgements" or all(f"`{source}`" in PAGE for source in sources)
    assert {"standard (default)", "conversational", "messages"} <= {name.replace("`", "") for name in rows}
    assert set(Style.__args__) == {"standard", "conversational", "messages"} and set(Kind.__args__) == set(TEXTS)  # type: ignore[attr-defined]
    assert ", ".join(KNOWN_COLUMNS) in PAGE
