"""docs/scan.md: its commands are ones."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from typer.testing import CliRunner

from selfalign.cli.app import app
from tests.export.made import make_run

PAGE = (Path(__file__).parent.parent.parent / "docs" / "scan.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    selfalign ((?:scan|sql) .*)$", PAGE, re.MULTILINE)


def test_the_commands_run(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "quickstart")
    (tmp_path / "run.yaml").write_text(json.dumps({"prompts": {"scan": "drop"}}))
    assert len(COMMANDS) == 4
    with contextlib.chdir(tmp_path):
        for command in COMMANDS:
            words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, (command, done.output, done.exception)
        assert (tmp_path / "findings.jsonl").is_file()
